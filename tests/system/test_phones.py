#!/usr/bin/python3
"""Phones as bodies, in real runs of two processes: one gets hot and slows down, one lets its radio sleep while it computes,
one reaches its battery's floor and leaves in order, and every joule has a cause."""
import json
import os

from harness import Run, experiment, phone_class, run_tests

# A pass of 3 blocks over 31 rows is about 50 MFLOP there and as much back: about half a second a step. 4 W in 0.5 J/K: hot within seconds.
SLOW = {"compute_gflops": 0.2, "dvfs": {"ghz": [0.5, 1, 2]}, "idle_w": 0.2, "rrc": {"preset": "wifi", "tail_w": 0.5}}
HOT = {"thermal": {"capacity_j_c": 0.5, "resistance_c_w": 20}}


def phones(run):
    return {p["class"]: p for p in run.events("sim", "phone")}


def check_account(phone):
    causes = phone["energy"]
    assert set(causes) == {"compute", "send", "receive", "tail", "idle", "promotion"}, causes
    assert abs(sum(causes.values()) - phone["energy_j"]) <= 1e-9 * phone["energy_j"], phone
    capacity = phone["battery_start_j"] / phone["battery_start"]
    fall = (phone["battery_start"] - phone["battery"]) * capacity
    assert abs(fall - (phone["energy_j"] - phone["charged_j"])) <= 1e-9 * capacity, phone


def test_a_hot_phone_slows_down():
    what = experiment(fleet=[phone_class("cool", **SLOW), phone_class("hot", **SLOW, **HOT)], plan={"cut": 3}, run={"steps": 16})
    what["training"].update(deterministic=False, aggregate_every=4)
    with Run(what) as run:
        run.run_both()
        seen = phones(run)
        cool, hot = seen["cool"], seen["hot"]
        for p in (cool, hot):
            assert p["end"] == "done" and p["steps"] == 16, p
            check_account(p)
        assert cool["clock_ghz"] == 2 and cool["temperature_c"] == 25, cool
        assert hot["temperature_c"] > 35, hot
        assert hot["modelled_compute_s"] > 1.3 * cool["modelled_compute_s"], (hot, cool)
        # slower, and cheaper: kappa f^3 for longer is less than for the full clock
        assert hot["energy"]["compute"] < cool["energy"]["compute"], (hot, cool)
        assert all(joules > 0 for joules in hot["energy"].values()), hot
        assert hot["promotions"] > 0 and hot["promotion_s"] > 0, hot


def test_twelve_seconds_of_computing_cost_a_second_to_send():
    """The radio is released after 1 s here, and the phone computes for longer: it pays its promotion to send, again and again."""
    steps, wake_s = 3, 0.8
    slow = {**SLOW, "compute_gflops": 0.028}  # about 3 s forward, as much backward
    sleepy = phone_class("sleepy", **{**slow, "rrc": {"inactivity_s": 1, "promotion_median_ms": 1000 * wake_s, "tail_w": 0.4, "promotion_w": 1.2}})
    what = experiment(fleet=[phone_class("awake", **{**slow, "rrc": "none"}), sleepy], plan={"cut": 3}, run={"steps": steps})
    what["training"].update(deterministic=False, aggregate_every=3)
    with Run(what) as run:
        run.run_both()
        awake, sleepy = phones(run)["awake"], phones(run)["sleepy"]
        check_account(sleepy)
        assert sleepy["steps"] == steps and awake["promotions"] == 0 and awake["energy"]["tail"] == 0, (awake, sleepy)
        assert sleepy["promotions"] >= 2 * steps, sleepy  # each step: its REQUEST (while it computes already), and its message after the pass
        assert abs(sleepy["promotion_s"] - wake_s * sleepy["promotions"]) < 0.01 * sleepy["promotion_s"], sleepy
        assert abs(sleepy["energy"]["promotion"] - 1.2 * sleepy["promotion_s"]) < 1e-6, sleepy
        # The other phone's message is there when its pass is over; the gang waits for this one's promotion.
        stalls = [e["stall_ms"] for e in run.events("edge", "step")]
        assert len(stalls) == steps and min(stalls) > 950 * wake_s, stalls


def test_a_phone_at_its_floor_leaves_in_order():
    # 1 mAh at 3.85 V is 13.9 J: 5 % of it, above the floor, lasts for a step or two of 4 W.
    weak = phone_class("weak", **{**SLOW, "battery_mah": 3, "battery_start": 0.55, "battery_floor": 0.5})
    what = experiment(fleet=[phone_class("strong", **SLOW), weak], plan={"cut": 3}, run={"steps": 12})
    what["training"].update(deterministic=False, aggregate_every=4)
    with Run(what) as run:
        run.run_both()
        seen = phones(run)
        assert seen["strong"]["end"] == "done" and seen["strong"]["steps"] == 12, seen["strong"]
        weak = seen["weak"]
        check_account(weak)
        assert "battery" in weak["end"] and "floor" in weak["end"], weak
        assert 0 < weak["steps"] < 12 and 0.3 < weak["battery"] <= 0.5, weak
        left = run.events("edge", "leave")
        assert any("floor" in e["why"] for e in left), left


def test_a_phone_comes_back_when_it_has_charged():
    """In virtual time: it is plugged in 72 s after the start, by when it has long left; 2 W in, 4 W out, so it comes and goes."""
    night = {"policy": "always", "start_h": 22, "charger_w": 2, "idle": {"probability": 0},
             "charging": {"begin_h": 22.02, "hours": 8, "spread_h": 0, "jitter_h": 0, "probability": 1}}
    weak = phone_class("weak", **{**SLOW, "battery_mah": 10, "battery_start": 0.55, "battery_floor": 0.5, "availability": night})
    what = experiment(fleet=[phone_class("strong", **SLOW), weak], plan={"cut": 3}, run={"seconds": 120})
    what["training"].update(deterministic=False, aggregate_every=4, gang={"quorum": 0.5, "deadline": 2})
    with Run(what, pki=False) as run:
        sim = run.start_sim("--virtual", "--json")
        assert run.finish(sim) == [0], run.output(sim)[-2000:]
        with open(os.path.join(run.dir, "events.jsonl"), encoding="utf-8") as f:
            events = [json.loads(line) for line in f]
        states = [e for e in events if e["event"] == "state" and e["phone"] == 1]
        left, joined = [[e["t"] for e in states if e["to"] == to] for to in ("asleep", "joining")]
        assert len(left) >= 2 and len(joined) >= 2, (left, joined)
        assert left[0] < 60e9 and 72e9 < joined[1] < 90e9, (left, joined)
        weak = phones(run)["weak"]
        check_account(weak)
        assert weak["charged_j"] > 10 and 0.4 < weak["battery"] < 0.6, weak
        assert phones(run)["strong"]["charged_j"] == 0


run_tests(globals())
