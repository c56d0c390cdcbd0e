#!/usr/bin/python3
"""sluice-sim --virtual: the same file gives the same events byte for byte, and what it says agrees with a run in real time."""
import hashlib
import json
import os
import signal

import yaml

import harness
from harness import Run, Skip, experiment, phone_class, run_tests

SCENARIOS = os.path.join(harness.ROOT, "device-sim", "scenarios")

# Slow enough that this host's arithmetic hides behind the modelled phones', and with losses, so that the seed shows.
LINK = {"up_mbps": 20, "down_mbps": 40, "rtt_ms": 30, "loss": 0.01, "queue_kib": 128}


def file(**changes):
    what = experiment(
        fleet=[phone_class("quick", 2, compute_gflops=4, link=dict(LINK)), phone_class("slow", 2, compute_gflops=2, link={**LINK, "rtt_ms": 60})],
        plan={"cut": [4, 2]}, run={"steps": 24}, seed=3)
    what["training"]["deterministic"] = False
    what["training"]["gang"] = {"policy": "sync", "quorum": 0.75, "deadline": "auto"}
    what["training"]["aggregate_every"] = 4
    what["edge"]["data"]["codec"] = "bf16"
    what.update(changes)
    return what


def virtual(what, *extra):
    """The digest of the event log, the log, and what --json says."""
    with Run(what, pki=False) as run:
        sim = run.start_sim("--virtual", "--json", *extra)
        assert run.finish(sim) == [0], run.output(sim)[-2000:]
        with open(os.path.join(run.dir, "events.jsonl"), "rb") as f:
            log = f.read()
        end = json.loads([line for line in run.output(sim).splitlines() if line.startswith("{")][-1])
        return hashlib.sha256(log).hexdigest(), [json.loads(line) for line in log.splitlines()], end, run.events("sim", "phone")


def test_the_same_file_gives_the_same_bytes_and_another_seed_does_not():
    first, second, other = virtual(file()), virtual(file()), virtual(file(seed=4))
    assert first[0] == second[0]
    assert first[0] != other[0]
    times = [e["t"] for e in first[1]]
    assert times == sorted(times) and all(isinstance(v, int) or isinstance(v, str) for e in first[1] for v in e.values())
    assert first[2]["steps"] == 24 * 4 and first[2]["reason"] == "done" and first[2]["virtual"] is True


def test_another_build_gives_the_same_bytes():
    other = os.environ.get("SLUICE_OTHER_BUILD")
    if not other:
        raise Skip("SLUICE_OTHER_BUILD: a build directory with another level of optimisation, or with sanitizers")
    digests = []
    for build in (harness.BUILD, other):
        harness.SIM = os.path.join(build, "device-sim", "fleet", "sluice-sim")
        digests.append(virtual(file(), "--events", "packets")[0])
    assert digests[0] == digests[1]


def test_packets_are_logged_the_same_too():
    first, second = virtual(file(run={"steps": 8}), "--events", "packets"), virtual(file(run={"steps": 8}), "--events", "packets")
    assert first[0] == second[0]
    count = {name: sum(e["event"] == name for e in first[1]) for name in ("packet_sent", "packet_arrived", "packet_dropped")}
    assert count["packet_sent"] == count["packet_arrived"] + count["packet_dropped"], count
    up, down = first[2]["up"], first[2]["down"]
    assert count["packet_sent"] == up["offered"] + down["offered"] and count["packet_dropped"] == first[2]["link_drops"]


def test_a_phone_that_dies_does_not_hold_the_others_up():
    _, events, end, phones = virtual(file(), "--fault", "die@3:1")
    assert end["steps"] >= 3 * 24 and [p["end"] for p in phones].count("done") == 3, end
    assert any(e["event"] == "leave" and e["phone"] == 1 and "died" in e["why"] for e in events)


def test_ctrl_c_ends_in_order():
    what = file(run={"steps": 1000000})
    with Run(what, pki=False) as run:
        sim = run.start_sim("--virtual", "--json")
        run.wait_for(lambda: os.path.getsize(os.path.join(run.dir, "events.jsonl")) > 0 if os.path.exists(os.path.join(run.dir, "events.jsonl")) else False,
                     "events", processes=[sim])
        sim.send_signal(signal.SIGINT)
        assert run.finish(sim, timeout=60) == [130], run.output(sim)[-2000:]
        assert run.events("events")[-1]["event"] == "end"


def test_what_the_model_lacks_is_refused_by_name():
    what = file()
    what["training"]["adapters"] = "personal"
    with Run(what, pki=False) as run:
        sim = run.start_sim("--virtual")
        assert run.finish(sim) == [1]
        assert "--virtual has no training.adapters: personal" in run.output(sim), run.output(sim)


def test_other_policies_end_too():
    for training in ({"gang": {"policy": "async"}}, {"aggregation": "gradients"}, {"batch": 2}):
        what = file()
        what["training"].update(training)
        end = virtual(what)[2]
        assert end["reason"] == "done" and end["steps"] > 0, training


def test_scenarios_end_and_one_with_everything_repeats_its_bytes():
    digests = []
    for name in sorted(os.listdir(SCENARIOS)) + ["mixed-100.yaml"]:
        if not name.endswith(".yaml"):
            continue
        with open(os.path.join(SCENARIOS, name), encoding="utf-8") as f:
            what = yaml.safe_load(f)
        what["run"].update(steps=8, seconds=40)
        with Run(file(), pki=False) as run:
            run.write_experiment(what)
            run.cwd = harness.ROOT
            sim = run.start_sim("--virtual", "--json")
            assert run.finish(sim) == [0], f"{name}: {run.output(sim)[-2000:]}"
            end = run.events("sim", "end")[-1]
            assert end["model_edge"]["gangs"] > 0 and end["up"]["late_max_us"] == 0, (name, end)
            if name == "mixed-100.yaml":
                with open(os.path.join(run.dir, "events.jsonl"), "rb") as f:
                    digests.append(hashlib.sha256(f.read()).hexdigest())
    assert len(digests) == 2 and digests[0] == digests[1]


def spans(events, begin, end):
    """By phone: seconds from its first event `begin` to its last `end`."""
    first, last = {}, {}
    for e in events:
        if e["event"] == begin:
            first.setdefault(e["phone"], e["t"])
        if e["event"] == end:
            last[e["phone"]] = e["t"]
    return {p: (last[p] - first[p]) * 1e-9 for p in last}


def near(what, a, b, relative):
    print(f"   {what}: {a:.4g} in virtual, {b:.4g} in real time")
    assert abs(a - b) <= relative * b, what


LATE_MS = 5  # of a packet, at most, in a real run that can be compared: a later one can look lost to the sender


def real(what):
    """The events, phones and end of a run in real time on a host that kept up with it."""
    for _ in range(4):
        with Run(what) as run:
            run.run_both()
            end = run.events("sim", "end")[-1]
            if max(end["up"]["late_max_us"], end["down"]["late_max_us"]) <= 1e3 * LATE_MS:
                return run.events("events"), run.events("sim", "phone")
    raise Skip("a host that keeps up with four phones in real time: other programs take its processors")


def test_agrees_with_a_run_in_real_time():
    """The real edge node and its trainer, with modelled compute time on both sides, so that arithmetic does not count."""
    what = file(sim={"compute": "replay"})
    what["edge"].update(compute="modelled", compute_gflops=200)
    real_events, real_phones = real(what)
    _, events, _, phones = virtual(what)
    for v, r in zip(sorted(phones, key=lambda p: p["index"]), sorted(real_phones, key=lambda p: p["index"])):
        assert v["steps"] == r["steps"] == 24, (v["id"], v["steps"], r["steps"])
        near(f"{v['id']} bytes up", v["bytes_up"], r["bytes_up"], 0.03)
        near(f"{v['id']} bytes down", v["bytes_down"], r["bytes_down"], 0.03)
        near(f"{v['id']} compute, s", v["modelled_compute_s"], r["modelled_compute_s"], 1e-6)
    for kind in ("request", "granted", "send", "result", "push"):
        count = [sum(e["event"] == kind for e in log) for log in (events, real_events)]
        assert count[0] == count[1], (kind, count)
    # A push and the new G cost a round trip of the slowest phone in virtual time, none over the real run's loopback.
    boundaries = sum(e["event"] == "version" for e in events) - 1
    control_s = boundaries * max(c["link"]["rtt_ms"] for c in what["fleet"]) * 1e-3
    virtual_s, real_s = (spans(log, "send", "result") for log in (events, real_events))
    for phone in virtual_s:
        ours = virtual_s[phone] - control_s
        print(f"   phone {phone}: first message to last result {ours:.3f} s and {control_s:.3f} s of control in virtual, {real_s[phone]:.3f} s in real time")
        assert ours <= 1.01 * real_s[phone], phone  # a host makes a run late, never early
        assert real_s[phone] <= 1.1 * ours, phone


run_tests(globals())
