#!/usr/bin/python3
"""Split equals central (rules L6), over the real path: two processes, memif, TLS, the whole protocol."""
import os

from harness import Run, central, experiment, phone_class, run_tests, train_json

LAYERS = 8


def assert_close(ours, theirs, tolerance):
    assert len(ours) == len(theirs) and ours, (len(ours), len(theirs))
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))
    assert worst <= tolerance, f"relative difference {worst:.3g} above {tolerance:g}"
    return worst


def test_one_device_every_cut_is_bit_identical():
    for cut in range(1, LAYERS):
        with Run(experiment(plan={"cut": cut}, run={"steps": 50})) as run:
            run.run_both()
            losses = run.losses()
            assert len(losses) == 50
            expected = central(run)
            assert losses == expected, f"cut {cut}: first difference at step {next(i for i, (a, b) in enumerate(zip(losses, expected)) if a != b)}"
            assert abs(losses[-1] - central(run, lr=1e-12)[-1]) > 1e-3, "nothing was learnt: the comparison proves nothing"


def test_one_device_with_sgd_is_bit_identical():
    """Adam hides a wrong scale."""
    training = experiment()["training"]
    training["optimizer"] = {"kind": "sgd", "lr": 0.5}
    with Run(experiment(plan={"cut": 3}, training=training, run={"steps": 20})) as run:
        run.run_both()
        assert run.losses() == central(run)


def test_stability_term_is_that_of_central_training():
    """Rules P8, P1: the same to the bit at every cut; together with FedProx it still trains; and it holds the adapter back."""
    training = {**experiment()["training"], "proximal_mu": 0.05}
    central_losses = None
    for cut in (2, 6):
        with Run(experiment(plan={"cut": cut}, training=training)) as run:
            run.run_both()
            assert run.losses() == central(run, "--proximal-mu", "0.05")
            assert run.losses() != central(run), "the term changed nothing: it is not in use"
            assert central_losses in (None, run.losses()), "the cut shows"
            central_losses = run.losses()
            values = [e["proximal"] for e in run.events("edge", "aggregate")]
            assert len(values) == 4 and all(v > 0 for v in values), values
    training["fedprox_mu"] = 0.1
    for adapters in ("shared", "personal"):
        if adapters == "personal":
            training = {**training, "adapters": "personal", "fedprox_mu": 0}
        with Run(experiment(fleet=[phone_class("a", 2)], training=training)) as run:
            run.run_both()
            losses = run.losses()
            assert sum(losses[-5:]) < sum(losses[:5]), losses


def test_three_devices_unequal_lengths_and_cuts_equal_central_training():
    training = experiment()["training"]
    training["optimizer"] = {"kind": "sgd", "lr": 0.5}
    training["aggregate_every"] = 1
    fleet = [phone_class("long", seq=48), phone_class("middle", seq=32), phone_class("short", seq=17)]
    for how in ("factors", "freeze_a"):
        training["lora"]["how"] = how
        with Run(experiment(fleet=fleet, training=training, plan={"cut": [2, 5, 3]}, run={"steps": 50})) as run:
            run.run_both()
            extra = ["--freeze-a"] if how == "freeze_a" else []
            worst = assert_close(run.losses(), central(run, *extra), 1e-6)
            print(f"   {how}: worst relative difference {worst:.2g}")


def test_evaluation_is_reproduced_by_the_exported_adapter():
    with Run(experiment(fleet=[phone_class("a", 2), phone_class("b")], plan={"cut": [2, 6]})) as run:
        run.run_both()
        for phase, adapter in (("before", []), ("after", ["--adapter", os.path.join(run.dir, "adapters", "global")])):
            nll = tokens = 0
            for e in run.events("edge", "eval"):
                if e["phase"] == phase:
                    nll += sum(e["nll"])
                    tokens += sum(e["tokens"])
            scored = train_json("eval", "--model", run.experiment["model"]["path"], "--ids", os.path.join(run.dir, "heldout.ids"),
                                "--seq", str(run.experiment["data"]["seq"]), *adapter)
            assert scored["tokens"] == tokens, (scored["tokens"], tokens)
            assert abs(scored["nll"] - nll / tokens) < 1e-4, (phase, scored["nll"], nll / tokens)


def test_same_seed_gives_the_same_bytes():
    """Deterministic mode (rules L7)."""
    images = []
    for _ in range(2):
        with Run(experiment(fleet=[phone_class("a", 2), phone_class("b")], plan={"cut": [2, 5]}, run={"steps": 10})) as run:
            run.run_both()
            images.append((run.losses(), run.adapter()))
    assert images[0] == images[1]


def test_codec_bf16_stays_close_to_central_training():
    """Rules L6: 5e-4 a step at the start, 0.5 % over 300 steps."""
    what = experiment(run={"steps": 300})
    what["edge"]["data"]["codec"] = "bf16"
    with Run(what) as run:
        run.run_both()
        losses, expected = run.losses(), central(run)
        assert_close(losses[:5], expected[:5], 5e-4)
        mean = sum(losses[-50:]) / 50, sum(expected[-50:]) / 50
        assert abs(mean[0] - mean[1]) / mean[1] <= 5e-3, mean
        assert losses != expected, "bf16 changed nothing: it is not in use"


run_tests(globals())
