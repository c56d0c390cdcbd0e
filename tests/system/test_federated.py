#!/usr/bin/python3
"""How copies become one, in the whole system: re-factoring by SVD, mixed ranks, proximal terms, a server's optimiser (rules L4, L5)."""
import json
import os
import struct

from harness import Run, experiment, phone_class, run_tests, train_json


def adapter_tensors(image):
    """Shapes by name, of a safetensors file."""
    n = struct.unpack("<Q", image[:8])[0]
    return {k: v["shape"] for k, v in json.loads(image[8:8 + n]).items() if k != "__metadata__"}


def svd_fleet(**changes):
    """Three phones of ranks 2, 4 and 8 at cuts 2, 4 and 3."""
    fleet = [phone_class("a", 1, rank=2), phone_class("b", 1, rank=4), phone_class("c", 1)]
    training = {**experiment()["training"], "lora": {"rank": 8, "alpha": 16, "targets": ["q_proj", "v_proj", "down_proj"], "how": "svd"}}
    training.update(changes.pop("training", {}))
    return experiment(fleet=fleet, plan={"cut": [2, 4, 3]}, training=training, run={"steps": 30}, **changes)


def check_evaluation(run, rel=1e-4):
    """What the edge scored is what sluice-train makes of the adapter it wrote (rules L10)."""
    nll = tokens = 0
    for e in run.events("edge", "eval"):
        if e["phase"] == "after":
            nll += sum(e["nll"])
            tokens += sum(e["tokens"])
    got = train_json("eval", "--model", run.experiment["model"]["path"], "--ids", os.path.join(run.dir, "heldout.ids"), "--seq", str(run.experiment["data"]["seq"]),
                     "--adapter", os.path.join(run.dir, "adapters", "global"))
    assert tokens and abs(got["nll"] - nll / tokens) <= rel * (nll / tokens), (got, nll / tokens)


def test_mixed_ranks_and_cuts_learn():
    with Run(svd_fleet()) as run:
        run.run_both()
        losses = run.losses()
        assert len(losses) == 30
        assert sum(losses[-5:]) < sum(losses[:5]) - 0.1, losses
        shapes = adapter_tensors(run.adapter())
        assert {s[0] for k, s in shapes.items() if "lora_A" in k} == {8}, "the global adapter has the global rank"
        rounds = run.events("edge", "aggregate")
        assert rounds and all(0 <= e["factor_error"] < 0.5 for e in rounds), rounds
        check_evaluation(run, rel=5e-3)  # a phone of rank 2 scores with the first two components of its blocks


def test_ranks_stay_when_cuts_change():
    """A phone of rank 2 gets deeper and back again: its blocks are of its rank at any cut."""
    what = svd_fleet()
    what["plan"]["changes"] = [{"step": 10, "cut": [5, 2, 3]}, {"step": 20, "cut": [1, 4, 6]}]
    with Run(what) as run:
        run.run_both()
        losses = run.losses()
        assert len(losses) == 30 and sum(losses[-5:]) < sum(losses[:5]) - 0.1, losses
        assert len(run.events("edge", "cut")) == 5, run.events("edge", "cut")  # two of three, then all
        assert not run.events("edge", "leave") or all(e["why"] == "done" for e in run.events("edge", "leave")), run.events("edge", "leave")


def test_svd_loses_less_than_averaging_factors():
    what = svd_fleet()
    for c in what["fleet"]:
        c.pop("rank", None)
    with Run(what) as run:
        run.run_both()
        rounds = run.events("edge", "aggregate")
        assert rounds and all(e["factor_error"] <= e["mean_error"] for e in rounds), rounds
        check_evaluation(run)


def resumed_equals_undisturbed(what, check=lambda run: None):
    """The edge is killed in mid-training and comes back: the same adapter and the same windows, to the bit (rules T12)."""
    results = []
    for disturbed in (False, True):
        for c in what["fleet"]:
            c["compute_gflops"] = 0.4  # a quarter of a second a step, so that something can happen in mid-training
        with Run(what) as run:
            sim, edge = run.start_sim(), run.start_edge()
            if disturbed:
                run.wait_for(lambda: len(run.events("edge", "step")) >= 12, "step 12", processes=(sim, edge))
                edge = run.kill_and_restart(edge)
            codes = run.finish(edge, sim)
            assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(sim)[-3000:]}"
            check(run)
            with open(os.path.join(run.dir, "central.ids"), encoding="utf-8") as f:
                results.append((run.adapter(), f.read()))
    assert results[0][1] == results[1][1], "other windows were trained"
    assert results[0][0] == results[1][0], "the adapter differs"


def test_svd_killed_in_deterministic_mode_ends_with_the_same_adapter():
    """Ranks, moments and G survive the edge's death."""
    resumed_equals_undisturbed(svd_fleet())


def three_phones(**training):
    what = experiment(fleet=[phone_class("a", 2), phone_class("b", 1)], plan={"cut": [2, 4]}, run={"steps": 24})
    what["training"].update(training)
    return what


def test_bf16_killed_in_deterministic_mode_ends_with_the_same_adapter():
    what = three_phones()
    what["model"]["precision"] = "bf16"
    what["edge"]["data"]["codec"] = "bf16"
    resumed_equals_undisturbed(what)


def test_schedule_accumulation_and_proximal_term_survive_a_kill():
    """The rate follows the global step, the term its anchor G, and no optimiser step is cut in two."""
    optimizer = {"kind": "adamw", "lr": 2.0e-3, "schedule": "cosine", "warmup": 4, "clip": 0.5}
    resumed_equals_undisturbed(three_phones(optimizer=optimizer, accumulate=2, aggregate_every=4, fedprox_mu=0.1,
                                            lora={"rank": 4, "alpha": 8, "targets": ["q_proj", "down_proj"], "how": "freeze_a"}))


def distance(image):
    """Squared length of all B's: how far the adapter is from where it began."""
    n = struct.unpack("<Q", image[:8])[0]
    data = image[8 + n:]
    total = 0.0
    for name, t in json.loads(image[8:8 + n]).items():
        if "lora_B" in name:
            begin, end = t["data_offsets"]
            total += sum(x * x for x in struct.unpack(f"<{(end - begin) // 4}f", data[begin:end]))
    return total


def trained(cut, steps=10, devices=1, **training):
    what = experiment(fleet=[phone_class("a", devices)], plan={"cut": cut}, run={"steps": steps})
    what["training"].update(training)
    with Run(what) as run:
        run.run_both()
        return run.adapter()


def test_fedprox_is_the_same_on_both_sides_of_the_cut():
    """Device and edge add the same term to their blocks, so one device's training does not depend on the cut, to the bit; and copies stay nearer."""
    free = trained(3, devices=2)
    near = trained(3, devices=2, fedprox_mu=0.5)
    assert distance(near) < 0.98 * distance(free), (distance(near), distance(free))
    images = [trained(cut, fedprox_mu=0.5) for cut in (2, 5)]
    assert images[0] == images[1], "the cut shows"
    assert images[0] != trained(2), "the term changed nothing: it is not in use"


def test_fedadam_learns_and_survives_a_kill():
    """The server's moments are in the checkpoint."""
    def learns(run):
        losses = run.losses()
        assert sum(losses[-5:]) < sum(losses[:5]) - 0.1, losses

    resumed_equals_undisturbed(three_phones(server={"kind": "fedadam", "lr": 0.01}), learns)


run_tests(globals())
