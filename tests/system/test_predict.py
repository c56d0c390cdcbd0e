#!/usr/bin/python3
"""The edge foretells its phones' steps from their heartbeats, in a run of two processes: what it foretold is of the size of what came, for a
phone that gets hot, one on a thin link, and at a cut that none of them had before. Modelled times: no bound here is a matter of this
host's speed unless it cannot keep its own schedule, and then the test is skipped by name."""
import json
import os
import statistics
import subprocess

from harness import ROOT, Run, Skip, experiment, phone_class, run_tests

WITHIN = 2.0  # a factor, of the median: generous, docs/planner.md has the figures
LAG_MS = 50   # later than that the links' times are the host's


def foretelling():
    base = {"compute_gflops": 0.6, "dvfs": {"ghz": [0.5, 1, 2]}, "idle_w": 0.2, "rrc": "none"}
    fleet = [phone_class("cool", 1, **base, link={"up_mbps": 4, "down_mbps": 8, "rtt_ms": 20}),
             phone_class("hot", 1, **base, thermal={"capacity_j_c": 0.5, "resistance_c_w": 20}, link={"up_mbps": 4, "down_mbps": 8, "rtt_ms": 20}),
             phone_class("thin", 1, **base, link={"up_mbps": 0.5, "down_mbps": 1, "rtt_ms": 60})]
    what = experiment(fleet=fleet, sim={"compute": "replay", "lag_bound_ms": LAG_MS}, run={"steps": 56, "seconds": 60},
                      plan={"cut": 2, "changes": [{"step": 24, "cut": 4}]})
    what["training"] = {"lora": {"rank": 1, "targets": ["q_proj"]}, "aggregate_every": 4, "gang": {"policy": "sync", "quorum": 1.0}}
    what["edge"].update({"compute": "modelled", "compute_gflops": 50, "heartbeat_ms": 100})
    what["edge"]["data"].update({"codec": "bf16"})
    return what


def test_what_is_foretold_comes():
    with Run(foretelling()) as run:
        run.run_both()
        end = run.events("sim", "end")[0]
        if not end["lag"]["valid"]:
            raise Skip("a host that keeps the simulator's schedule")
        windows = run.events("edge", "profile")
        assert {w["class"] for w in windows} == {"cool", "hot", "thin"}, windows
        assert any(w["changed"] and w["cut"] == 4 for w in windows), "no prediction for the new cut"
        for w in windows:
            assert w["steps"] >= 8 and w["predicted_s"] > 0 and w["predicted_j"] > 0, w
        for name in ("cool", "hot", "thin"):
            mine = [w for w in windows if w["class"] == name]
            for unit in ("s", "j"):
                ratio = statistics.median(w[f"predicted_{unit}"] / w[f"measured_{unit}"] for w in mine)
                assert 1 / WITHIN < ratio < WITHIN, (name, unit, ratio, mine)
        by_class = {name: [w for w in windows if w["class"] == name][-1] for name in ("cool", "hot", "thin")}
        assert by_class["hot"]["clock_hz"] < 0.9 * by_class["cool"]["clock_hz"], by_class
        assert by_class["thin"]["up_s"] > 2 * by_class["cool"]["up_s"], by_class
        assert by_class["cool"]["edge_flops"] > 0, by_class
        said = json.loads(subprocess.run([os.path.join(ROOT, "scripts", "plan-predict"), run.dir, "--json"], capture_output=True, text=True,
                                         check=True).stdout)
        assert said[0]["all"]["windows"] == len(windows) and set(said[0]["classes"]) == {"cool", "hot", "thin"}, said
        print(f"   {len(windows)} windows, |error| of time {100 * said[0]['all']['time']['median']:.0f} %, of energy "
              f"{100 * said[0]['all']['energy']['median']:.0f} % at the median")


run_tests(globals())
