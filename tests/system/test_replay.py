#!/usr/bin/python3
"""Phones that replay: a fleet that is larger than the host's arithmetic, with a modelled edge; a recording, made and replayed to a real edge; and
recordings that do not fit, refused in a line."""
import json
import os

from harness import Run, experiment, one_line_error, phone_class, run_tests

PHONES = 200


def replaying(count, **changes):
    """No text, no arithmetic on either side; every phone steps about once in two seconds."""
    what = experiment(fleet=[phone_class("p", count, compute_gflops=0.4)], sim={"compute": "replay", "lag_bound_ms": 1000}, run={"seconds": 6}, **changes)
    what["training"] = {"lora": {"rank": 1, "targets": ["q_proj"]}, "gang": {"policy": "async"}, "aggregate_every": 1000}
    what["edge"].update({"compute": "modelled", "compute_gflops": 20000, "slots": 32, "max_devices": count})
    what["edge"]["data"].update({"codec": "bf16", "memory_mib": 256})
    return what


def balanced(side):
    return side["offered"] == side["delivered"] + side["under_way"] + sum(side["drops"].values())


def test_two_hundred_phones_step_and_the_books_balance():
    with Run(replaying(PHONES)) as run:
        run.run_both()
        end, edge = run.events("sim", "end")[0], run.events("edge", "end")[0]
        phones = run.events("sim", "phone")
        assert len(phones) == PHONES and all(p["steps"] > 0 and p["end"] == "done" for p in phones), [p for p in phones if not p["steps"]][:3]
        assert balanced(end["up"]) and balanced(end["down"]), end
        e = end["endpoint"]
        assert e["packets_rx"] == e["delivered_data"] + e["delivered_frames"] + e["scratch"] + sum(e["drops"].values()), e
        assert edge["compute"] == "modelled" and not any("loss" in s for s in run.events("edge", "step"))
        assert run.events("sim", "start")[0]["compute"] == "replay"
        assert end["lag"]["valid"] and end["lag"]["up"]["n"] >= end["up"]["delivered"] and end["lag"]["phones"]["n"] > 0, end["lag"]
        assert not os.path.exists(os.path.join(run.dir, "central.ids")), "nobody trained on any window"
        print(f"   {end['steps']} steps of {PHONES} phones, {end['up']['delivered'] + end['down']['delivered']} packets")


def test_a_bound_that_is_not_kept_makes_the_run_invalid():
    what = replaying(5)
    what["sim"]["lag_bound_ms"] = 0.001  # no scheduler is that good
    with Run(what) as run:
        _, sim = run.run_both()
        assert run.events("sim", "end")[0]["lag"]["valid"] is False
        assert "the run is not valid" in run.output(sim)


def test_a_recording_is_replayed_to_a_real_edge():
    what = experiment(fleet=[phone_class("p", 2)], run={"steps": 12})
    what["edge"]["data"]["codec"] = "int8+lz4"
    with Run(what) as run:
        file = os.path.join(run.dir, "messages.rec")
        run.run_both("--record", file)
        losses, recorded = run.losses(), run.events("sim", "end")[0]["recorded"]
        assert recorded >= 24, recorded  # and what was under way at the end
        other = json.loads(json.dumps(what))
        other["fleet"][0]["count"] = 6
        other["training"]["deterministic"] = False
        other["sim"] = {"compute": "replay", "recording": file}
        other["edge"]["control"] = experiment()["edge"]["control"]
        with Run(other) as again:
            again.run_both()
            replayed = again.losses()
            assert len(replayed) == 12 and all(p["steps"] > 0 for p in again.events("sim", "phone"))
            # The same model's activations with their own targets: losses of that size, not those of noise (ln 2048 is 7.6).
            mean, real = sum(replayed) / 12, sum(losses) / 12
            assert abs(mean - real) < 1, (mean, real)
        for change, why in (({"plan": {"cut": 3}}, "at cut 3"), ({"codec": "bf16"}, "another codec"), ({"recording": "/nowhere.rec"}, "/nowhere.rec: ")):
            wrong = json.loads(json.dumps(other))
            wrong["edge"]["data"]["codec"] = change.get("codec", "int8+lz4")
            wrong["sim"]["recording"] = change.get("recording", file)
            wrong["plan"] = change.get("plan", wrong["plan"])
            with Run(wrong, pki=False) as refused:
                sim = refused.start_sim()
                assert refused.finish(sim) == [1]
                assert why in one_line_error(refused.output(sim)), refused.output(sim)


run_tests(globals())
