#!/usr/bin/python3
"""Personal adapters with the real programs: a fleet is as many separate trainings, and survives the edge's death (rules L2, L3, T12)."""
import os
import signal
import struct

from harness import Run, experiment, phone_class, run_tests, train_json

FLEET = [phone_class("a", 2), phone_class("b")]
CUTS = [2, 5]


def personal(**changes):
    training = experiment()["training"]
    training.update(changes.pop("training", {}))
    return experiment(training={**training, "adapters": "personal"}, fleet=changes.pop("fleet", FLEET), plan={"cut": changes.pop("cut", CUTS)},
                      **changes)


def alone(run, device, n):
    """What `sluice-train lora` makes of this device's windows: losses, and its adapter's directory."""
    what = run.experiment
    with open(os.path.join(run.dir, "central.ids"), encoding="utf-8") as f:
        mine = f.readlines()[device::n]
    path, out = os.path.join(run.dir, f"device-{device}.ids"), os.path.join(run.dir, f"alone-{device}")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(mine)
    lora, optimizer = what["training"]["lora"], what["training"]["optimizer"]
    losses = train_json("lora", "--model", what["model"]["path"], "--ids", path, "--out", out, "--steps", str(len(mine)), "--batch", "1",
                        "--seq", str(what["data"]["seq"]), "--tails", "--lr", str(optimizer["lr"]), "--optimizer", optimizer["kind"],
                        "--rank", str(lora["rank"]), "--alpha", str(lora["alpha"]), "--targets", ",".join(lora["targets"]),
                        "--seed", str(what["seed"]))["losses"]
    return losses, out


def tensors(directory):
    with open(os.path.join(directory, "adapter_model.safetensors"), "rb") as f:
        return f.read()


def floats(directory):
    data = tensors(directory)
    (header,) = struct.unpack("<Q", data[:8])
    body = data[8 + header:]
    return struct.unpack(f"<{len(body) // 4}f", body)


def exported(run, device):
    return os.path.join(run.dir, "adapters", f"device-{device:05d}")


def held_out(run, device):
    """Score of the device's held-out windows with its exported adapter."""
    path = os.path.join(run.dir, f"heldout-{device}.ids")
    with open(os.path.join(run.dir, "heldout.ids"), encoding="utf-8") as f:
        mine = f.readlines()[device]  # a line a phone
    with open(path, "w", encoding="utf-8") as f:
        f.write(mine)
    return train_json("eval", "--model", run.experiment["model"]["path"], "--ids", path, "--seq", str(run.experiment["data"]["seq"]),
                      "--adapter", exported(run, device))


def test_one_device_is_bit_identical_to_training_alone():
    for cut in (1, 4, 7):
        with Run(personal(fleet=[phone_class("a")], cut=cut, run={"steps": 20})) as run:
            run.run_both()
            losses, out = alone(run, 0, 1)
            assert run.losses() == losses, f"cut {cut}: the losses differ"
            assert floats(exported(run, 0)) == floats(out), f"cut {cut}: the adapters differ"


def test_a_fleet_is_as_many_separate_trainings():
    """SGD, because Adam hides a wrong scale; losses of the gang are means over its devices, one window each."""
    with Run(personal(training={"optimizer": {"kind": "sgd", "lr": 0.5}}, run={"steps": 30})) as run:
        run.run_both()
        n = 3
        each = [alone(run, d, n) for d in range(n)]
        expected = [sum(losses[s] for losses, _ in each) / n for s in range(30)]
        worst = max(abs(a - b) / b for a, b in zip(run.losses(), expected))
        print(f"   losses: worst relative difference {worst:.2g}")
        assert worst <= 1e-6, worst
        for d, (_, out) in enumerate(each):
            ours, theirs = floats(exported(run, d)), floats(out)
            assert len(ours) == len(theirs)
            difference = max(abs(a - b) for a, b in zip(ours, theirs)) / max(abs(b) for b in theirs)
            assert difference <= 1e-4, f"device {d}: adapters differ by {difference:.3g}"
        assert tensors(exported(run, 0)) != tensors(exported(run, 1))


def test_every_devices_held_out_figure_is_reproduced_by_its_export():
    with Run(personal(run={"steps": 30})) as run:
        run.run_both()
        scores = {}
        for e in run.events("edge", "eval"):
            if e["phase"] == "after":
                scores[e["index"]] = sum(e["nll"]) / sum(e["tokens"])
        assert sorted(scores) == [0, 1, 2]
        for d, nll in scores.items():
            assert abs(held_out(run, d)["nll"] - nll) < 1e-4, (d, nll)
        end = run.events("edge", "end")[-1]["held_out"]["after"]
        assert abs(end["median"] - sorted(scores.values())[1]) < 1e-12
        assert abs(end["worst"] - max(scores.values())) < 1e-12
        assert end["worst_device"] == f"device-{max(scores, key=scores.get):05d}"
        assert end["devices"] == 3


def test_edge_killed_in_deterministic_mode_ends_with_the_same_adapters():
    images = []
    fleet = [phone_class("a", 2, compute_gflops=0.4), phone_class("b", 1, compute_gflops=0.4)]
    for disturbed in (False, True):
        with Run(personal(fleet=fleet, run={"steps": 20})) as run:
            sim, edge = run.start_sim(), run.start_edge()
            if disturbed:
                run.wait_for(lambda: len(run.events("edge", "step")) >= 12, "step 12", processes=(sim, edge))
                edge.send_signal(signal.SIGKILL)
                edge.wait()
                edge = run.start_edge()
            codes = run.finish(edge, sim)
            assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(sim)[-3000:]}"
            losses = {e["step"]: e["loss"] for e in run.events("edge", "step")}
            images.append((losses, [tensors(exported(run, d)) for d in range(3)]))
    assert images[0][0] == images[1][0], "the losses differ"
    assert images[0][1] == images[1][1], "an adapter differs"


def test_more_devices_than_adapters_in_memory_and_a_restart():
    """Six devices, two adapters in memory; the edge is killed while the others lie on the disk."""
    what = personal(fleet=[phone_class("a", 6, compute_gflops=0.4)], cut=4, training={"deterministic": False, "gang": {"quorum": 0.3}},
                    run={"steps": 60})
    what["edge"]["adapters"] = {"resident": 2}
    with Run(what) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "step")) >= 30, "step 30", processes=(sim, edge))
        edge.send_signal(signal.SIGKILL)
        edge.wait()
        edge = run.start_edge()
        codes = run.finish(edge, sim)
        assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(sim)[-3000:]}"
        store = run.events("edge", "end")[-1]["adapters"]
        assert store["resident"] == 2 and store["loads"] > 10 and store["evictions"] > 10, store
        scores = {}
        for e in run.events("edge", "eval"):
            if e["phase"] == "after":
                scores[e["index"]] = sum(e["nll"]) / sum(e["tokens"])
        assert sorted(scores) == list(range(6))
        for d, nll in scores.items():
            assert abs(held_out(run, d)["nll"] - nll) < 1e-4, (d, nll)


def test_simulator_killed_and_restarted():
    """Phones that come back with nothing get their own half again."""
    fleet = [phone_class("a", 3, compute_gflops=0.4)]
    with Run(personal(fleet=fleet, cut=4, training={"deterministic": False}, run={"steps": 30})) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "step")) >= 12, "step 12", processes=(sim, edge))
        sim.kill()
        sim.wait()
        sim = run.start_sim()
        codes = run.finish(edge, sim)
        assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(sim)[-3000:]}"
        first, last = run.events("edge", "step")[0]["loss"], run.losses()[-5:]
        assert sum(last) / 5 < first, (first, last)


def test_a_shared_runs_directory_is_refused():
    with Run(experiment(run={"steps": 5})) as run:
        run.run_both()
        run.experiment["training"]["adapters"] = "personal"
        run.write_experiment(run.experiment)
        edge = run.start_edge()
        run.finish(edge, timeout=60)
        assert edge.returncode == 1 and "shared" in run.output(edge), run.output(edge)[-800:]


run_tests(globals())
