#!/usr/bin/python3
"""Queue disciplines, bursty loss, jitter and reordering asked for by keys of the experiment: they act, under their names, and the run ends whole."""
import json
import os

from harness import Run, experiment, phone_class, run_tests

# At 0.5 Mbit/s a message stands in the queue for seconds, to which every discipline but a deep drop-tail objects.
LINK = {"up_mbps": 0.5, "down_mbps": 8, "rtt_ms": 30}


def file(seq=64, **link):
    what = experiment(fleet=[phone_class("a", 2, compute_gflops=4, link={**LINK, **link})], plan={"cut": 2}, run={"steps": 6}, seed=5)
    what["training"]["deterministic"] = False
    what["data"]["seq"] = seq
    what["edge"]["data"]["codec"] = "bf16"
    return what


def virtual(**link):
    with Run(file(**link), pki=False) as run:
        sim = run.start_sim("--virtual", "--json")
        assert run.finish(sim) == [0], run.output(sim)[-2000:]
        with open(os.path.join(run.dir, "events.jsonl"), "rb") as f:
            log = f.read()
        end = json.loads([line for line in run.output(sim).splitlines() if line.startswith("{")][-1])
        assert end["steps"] == 12, end
        return end["up"]["drops"], end["down"]["drops"], log


def named(drops):
    return sorted(name for name, n in drops.items() if n)


def test_every_discipline_drops_under_its_own_name():
    assert named(virtual(queue={"kind": "none"})[0]) == []
    d = virtual(queue={"kind": "droptail", "packets": 5})[0]
    assert named(d) == ["queue_full"], d
    assert named(virtual(queue={"kind": "codel", "kib": 1024})[0]) == ["queue_delay"]
    # PIE drops what arrives while the queue is long: messages longer than a window, whose rest is sent as the first is acknowledged.
    assert named(virtual(seq=768, queue={"kind": "pie", "kib": 1024})[0]) == ["queue_early"]


def test_bursts_of_loss_jitter_and_reordering_are_the_same_every_time():
    air = {"loss": {"good_to_bad": 0.02, "bad_to_good": 0.3, "bad": 0.8}, "jitter_ms": 4, "reorder": {"share": 0.05, "by_ms": 12}}
    first, second = virtual(queue={"kind": "none"}, **air), virtual(queue={"kind": "none"}, **air)
    assert named(first[0]) == ["lost"] and named(first[1]) == ["lost"], first[:2]
    assert first[2] == second[2]


def test_a_real_run_behind_codel_and_pie():
    what = file(queue={"kind": "codel"}, loss={"good_to_bad": 0.01, "bad_to_good": 0.3, "bad": 0.5})
    what["fleet"][0]["link"].update(up_mbps=8, down_mbps=16)
    what["fleet"].append(phone_class("b", 1, compute_gflops=4, link={**LINK, "up_mbps": 8, "queue": {"kind": "pie", "packets": 200}, "jitter_ms": 3, "reorder": 0.02}))
    what["plan"]["cut"] = [2, 2]
    with Run(what) as run:
        edge = run.start_edge()
        sim = run.start_sim()
        assert run.finish(edge, sim) == [0, 0], run.output(edge)[-2000:] + run.output(sim)[-2000:]
        totals = run.events("sim", "end")[-1]
        up = totals["up"]
        assert up["offered"] == up["delivered"] + up["under_way"] + sum(up["drops"].values()), up
        assert up["drops"]["lost"] > 0 and totals["retransmits"] > 0, totals


run_tests(globals())
