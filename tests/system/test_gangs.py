#!/usr/bin/python3
"""Gang policies with whole programs: asynchronous gangs, their bound, and what the trainer says of its time."""
import json
import os

from harness import Run, experiment, phone_class, run_tests


def asynchronous(**gang):
    return {"lora": {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "down_proj"]}, "optimizer": {"kind": "adamw", "lr": 2.0e-3},
            "aggregate_every": 4, "gang": {"policy": "async", **gang}}


def uneven_fleet():
    """A quick class and a slow one, at different cuts."""
    slow = {"up_mbps": 20, "down_mbps": 20, "rtt_ms": 30}
    return [phone_class("quick", 3), phone_class("slow", 2, compute_gflops=2, link=slow)]


def held_out(run, phase):
    evals = run.events("edge", "eval")
    nll = sum(sum(e["nll"]) for e in evals if e["phase"] == phase)
    return nll / sum(sum(e["tokens"]) for e in evals if e["phase"] == phase)


def test_async__uneven_phones_learn_and_end_together():
    with Run(experiment(training=asynchronous(), fleet=uneven_fleet(), plan={"cut": [3, 5]}, run={"steps": 150})) as run:
        run.run_both()
        end = run.events("edge", "end")[-1]
        assert end["steps"] == 150, end
        versions = run.events("edge", "aggregate")
        assert len(versions) > 150 / 8, len(versions)
        assert [v["version"] for v in versions] == list(range(1, len(versions) + 1))
        assert min(e["devices"] for e in run.events("edge", "step")) < 5  # nobody waited for all
        assert not run.events("edge", "refused")
        assert held_out(run, "after") < held_out(run, "before") - 0.02
        assert 0 <= end["stall"] <= 1 and 0 < end["busy"] <= 1 and end["stall"] + end["busy"] <= 1.0001, end
        for step in run.events("edge", "step"):
            assert step["stall_ms"] >= 0
        ingest = end["ingest"]
        assert ingest["ready"] >= ingest["returned_gradient"] + ingest["returned_eval"]
        with open(os.path.join(run.dir, "adapters", "global", "adapter_config.json"), encoding="utf-8") as f:
            assert json.load(f)["r"] == 4


def test_async__beyond_the_bound_is_refused_and_goes_on():
    what = experiment(training={**asynchronous(staleness=1), "aggregate_every": 1}, fleet=uneven_fleet(), plan={"cut": [3, 5]}, run={"steps": 120})
    with Run(what) as run:
        run.run_both()
        why = {e["why"] for e in run.events("edge", "refused")}
        assert any("training.gang.staleness" in w or "no longer kept" in w for w in why), why
        assert run.events("edge", "end")[-1]["steps"] == 120


def test_async__an_edge_that_was_killed_goes_on():
    with Run(experiment(training=asynchronous(), fleet=uneven_fleet(), plan={"cut": [3, 5]}, run={"steps": 400})) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "step")) > 60, "60 steps", processes=(sim, edge))
        again = run.kill_and_restart(edge)
        assert run.finish(again, sim) == [0, 0], run.output(again)[-2000:] + run.output(sim)[-2000:]
        assert run.events("edge", "end")[-1]["steps"] == 400


if __name__ == "__main__":
    run_tests(globals())
