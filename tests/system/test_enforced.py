#!/usr/bin/python3
"""What a plan says is what happens, in real runs of two processes: clock and energy, pace, transmission power, shares of the edge."""
import json
import os

from harness import Run, experiment, phone_class, run_tests

# A pass of 3 blocks over 31 rows is about 50 MFLOP there and as much back: about half a second a step at the full clock.
SLOW = {"compute_gflops": 0.2, "dvfs": {"ghz": [0.5, 1, 2]}, "idle_w": 0.2}


def phones(run):
    return {p["class"]: p for p in run.events("sim", "phone")}


def test_half_the_clock_takes_twice_the_time_and_a_quarter_of_the_joules():
    what = experiment(fleet=[phone_class("free", **SLOW), phone_class("bounded", **SLOW)], run={"steps": 4},
                      plan={"cut": 3, "fixed": {"clock_hz": ["none", 1.7e9]}})
    with Run(what) as run:
        run.run_both()
        free, bounded = phones(run)["free"], phones(run)["bounded"]
        assert free["clock_ghz"] == 2 and bounded["clock_ghz"] == 1, (free, bounded)  # the highest step not above 1.7
        assert abs(bounded["modelled_compute_s"] / free["modelled_compute_s"] - 2) < 1e-6, (free, bounded)
        # kappa f^3 for 1 / f: (1/2)^2
        assert abs(bounded["energy"]["compute"] / free["energy"]["compute"] - 0.25) < 0.01, (free["energy"], bounded["energy"])


def bursts(events, phone, rest_s=0.009, least=30):
    """Runs of full packets of an uplink without a rest between: (bytes of all but the last, seconds)."""
    sent = [(e["t"] * 1e-9, e["bytes"] + 28) for e in events if e["event"] == "packet_sent" and e["phone"] == phone and e["direction"] == "up" and e["bytes"] > 1000]
    runs, begin = [], 0
    for i in range(1, len(sent) + 1):
        if i == len(sent) or sent[i][0] - sent[i - 1][0] > rest_s:
            if i - begin >= least:
                runs.append((sum(b for _, b in sent[begin:i - 1]), sent[i - 1][0] - sent[begin][0]))
            begin = i
    return runs


def paced(**changes):
    link = {"up_mbps": 50, "down_mbps": 50, "rtt_ms": 10}
    what = experiment(fleet=[phone_class("paced", link=link), phone_class("free", link=link)], run={"steps": 6},
                      plan={"cut": 3, "fixed": {"rate_up_mbps": [2, "none"]}}, **changes)
    what["training"]["batch"] = 4
    return what


def read_events(run):
    with open(os.path.join(run.dir, "events.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def test_pace__in_virtual_time_within_a_hundredth():
    with Run(paced(), pki=False) as run:
        sim = run.start_sim("--virtual", "--json", "--events", "packets")
        assert run.finish(sim) == [0], run.output(sim)[-2000:]
        events = read_events(run)
        runs, free = bursts(events, 0), bursts(events, 1)
        assert len(runs) >= 6, runs
        for size, seconds in runs:
            assert abs(8 * size / seconds / 2e6 - 1) < 0.01, (size, seconds)
        assert free and all(8 * size > 20e6 * seconds for size, seconds in free), free


def test_pace__of_real_packets():
    with Run(paced()) as run:
        run.run_both("--events", "packets")
        runs = bursts(read_events(run), 0, rest_s=0.05)
        assert len(runs) >= 6, runs
        # Never faster; slower where this host comes later than what a session may catch up with.
        assert all(8 * size / seconds < 1.01 * 2e6 + 8 * 2 * 1528 / seconds for size, seconds in runs), runs
        rates = sorted(8 * size / seconds for size, seconds in runs)
        assert rates[len(rates) // 2] > 0.9 * 2e6, rates


def test_power__costs_less_and_on_a_constant_link_carries_the_same():
    link = {"up_mbps": 4, "down_mbps": 50, "rtt_ms": 10}
    what = experiment(fleet=[phone_class("full", link=link), phone_class("low", link=link)], run={"steps": 5},
                      plan={"cut": 3, "fixed": {"power_w": ["none", 0.02]}})
    with Run(what, pki=False) as run:
        sim = run.start_sim("--virtual", "--json")
        assert run.finish(sim) == [0], run.output(sim)[-2000:]
        full, low = phones(run)["full"], phones(run)["low"]
        assert abs(low["bytes_up"] / full["bytes_up"] - 1) < 0.02, (full, low)
        # radio_tx_w 1 W: 0.2 W / 0.35 of it is the amplifier's, of which a tenth is left
        expected = 1 - 0.9 * 0.2 / 0.35
        assert abs(low["energy"]["send"] / full["energy"]["send"] - expected) < 0.02, (full["energy"], low["energy"])


def shared(**gang):
    """Twelve phones that are ready long before the edge is: its gangs of one message choose."""
    what = experiment(fleet=[phone_class(name, 4) for name in ("one", "two", "four")], run={"steps": 280},
                      plan={"cut": 3, "fixed": {"share": [1 / 28, 2 / 28, 4 / 28]}})
    what["training"].update(deterministic=False, aggregate_every=1000, gang={"policy": "async", "staleness": 64, "max": 1, **gang})
    what["edge"].update({"compute": "modelled", "compute_gflops": 5})
    what["sim"] = {"compute": "replay"}
    return what


def check_shares(run):
    steps = {"one": 0, "two": 0, "four": 0}
    for p in run.events("sim", "phone"):
        steps[p["class"]] += p["steps"]
    total = sum(steps.values())
    for name, share in (("one", 1 / 7), ("two", 2 / 7), ("four", 4 / 7)):  # four phones each, each within a message or two
        assert abs(steps[name] - share * total) <= 8, steps


def test_shares__are_steps_in_virtual_time():
    with Run(shared(), pki=False) as run:
        sim = run.start_sim("--virtual", "--json")
        assert run.finish(sim) == [0], run.output(sim)[-2000:]
        check_shares(run)


def test_shares__are_steps():
    with Run(shared()) as run:
        run.run_both()
        check_shares(run)


run_tests(globals())
