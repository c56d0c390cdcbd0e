#!/usr/bin/python3
"""Aggregated gradients (rules L4): any number of devices at any cuts equals central training, over the real path. Schedules, clipping,
accumulation; and a kill in between."""
import os
import signal

from harness import Run, central, experiment, phone_class, run_tests

LAYERS = 8


def training(kind="adamw", lr=2.0e-3, accumulate=1, **optimizer):
    what = experiment()["training"]
    what.update(aggregation="gradients", accumulate=accumulate, optimizer={"kind": kind, "lr": lr, **optimizer})
    return what


def flags(what):
    """What sluice-train lora is told beyond the harness's usual."""
    o = what["optimizer"]
    return ["--accumulate", str(what["accumulate"]), "--schedule", o.get("schedule", "constant"), "--warmup", str(o.get("warmup", 0)),
            "--min-lr", str(o.get("floor", 0)), "--clip", str(o.get("clip", 0))]


def assert_equal(run, tolerance):
    ours, theirs = run.losses(), central(run, *flags(run.experiment["training"]))
    assert len(ours) == len(theirs) and ours, (len(ours), len(theirs))
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))
    assert worst <= tolerance, f"relative difference {worst:.3g} above {tolerance:g}"
    assert abs(ours[-1] - ours[0]) > 1e-2, "nothing was learnt: the comparison proves nothing"
    return worst


def whole_run(what, cuts, fleet, steps, tolerance):
    with Run(experiment(fleet=fleet, training=what, plan={"cut": cuts}, run={"steps": steps})) as run:
        run.run_both()
        worst = assert_equal(run, tolerance)
        assert all(e["left_out"] == 0 for e in run.events("edge", "aggregate"))
        return worst


FLEET = [phone_class("long", seq=48), phone_class("middle", 2, seq=32), phone_class("short", seq=17)]


def test_devices_at_any_cuts_equal_central_training():
    for what in (training(), training("sgd", 0.5)):
        worst = whole_run(what, [2, 5, 7], FLEET, 40, 1e-6)
        print(f"   {what['optimizer']['kind']}: worst relative difference {worst:.2g}")


def test_one_device_is_bit_identical():
    whole_run(training(), 3, [phone_class("one")], 30, 0)


def test_accumulated_scheduled_and_clipped():
    what = training(accumulate=3, schedule="cosine", warmup=6, floor=0.1, clip=0.02)
    worst = whole_run(what, [1, 4, 6], FLEET, 42, 1e-6)
    print(f"   worst relative difference {worst:.2g}")


def test_weights_with_schedule_and_accumulation_are_bit_identical():
    what = training(accumulate=2, schedule="linear", warmup=4, clip=0.05)
    what.update(aggregation="weights", aggregate_every=4)
    whole_run(what, 5, [phone_class("one")], 30, 0)


def test_restart_goes_on_exactly():
    """Rules T12: the edge is killed; from its checkpoint the losses are those of a run without the kill."""
    what = training()
    what["aggregate_every"] = 4
    with Run(experiment(fleet=FLEET, training=what, plan={"cut": [2, 5, 7]}, run={"steps": 40})) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "step")) >= 10, "ten steps", processes=[edge])
        edge.send_signal(signal.SIGKILL)
        edge.wait()
        assert os.path.exists(os.path.join(run.dir, "checkpoint.bin"))
        edge = run.start_edge()
        codes = run.finish(edge, sim)
        assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(sim)[-3000:]}"
        last = {}
        for e in run.events("edge", "step"):
            last[e["step"]] = e["loss"]  # of a step done twice, the one that counts
        assert sorted(last) == list(range(1, 41))
        expected = central_of(run, 40)
        worst = max(abs(last[i + 1] - expected[i]) / expected[i] for i in range(40))
        assert worst <= 1e-6, worst


def live(steps=16, **more):
    """Not deterministic: a gang goes on without a phone that is gone. A quarter of a second a step."""
    what = training()
    what.update(deterministic=False, gang={"quorum": 0.5, "deadline": 2})
    fleet = [phone_class("a", 2, compute_gflops=0.4), phone_class("b", 1, compute_gflops=0.4)]
    return experiment(fleet=fleet, plan={"cut": [2, 4], **more}, training=what, run={"steps": steps})


def test_phones_that_die_or_send_nonsense_hold_nothing_up():
    with Run(live()) as run:
        sim, edge = run.start_sim("--fault", "die@4:2", "--fault", "nan@3:0"), run.start_edge()
        codes = run.finish(edge, sim)
        assert codes[0] == 0, run.output(edge)[-2000:]
        losses = run.losses()
        assert len(losses) == 16 and min(losses[8:]) < losses[0], losses
        assert any("device-00002" in str(e) for e in run.events("edge", "leave"))


def test_simulator_killed_and_restarted():
    """All phones are new; they take the present adapter, and the present cut."""
    with Run(live(14, changes=[{"step": 3, "cut": [5, 1]}])) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "step")) >= 6, "six steps", processes=(sim, edge))
        sim.send_signal(signal.SIGKILL)
        sim.wait()
        again = run.start_sim()
        codes = run.finish(edge, again)
        assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(again)[-3000:]}"
        assert {(e["class"], e["cut"]) for e in run.events("edge", "join")[3:]} == {("a", 5), ("b", 1)}
        assert run.events("edge", "end")[-1]["old_cut_messages"] == 0


def central_of(run, steps):
    """As harness.central, for a run whose step events contain repeats."""
    run.losses = lambda: [0.0] * steps
    return central(run, *flags(run.experiment["training"]))


run_tests(globals())
