#!/usr/bin/python3
"""Change of cut in mid-run (rules L9), over the real path: the losses do not notice, moments go along, a killed edge knows the cut."""
import signal

from harness import Run, central, experiment, phone_class, run_tests

FLEET = [phone_class("long", seq=48), phone_class("middle", 2, seq=32), phone_class("short", seq=17)]
CHANGES = [{"step": 8, "cut": [5, 1, 2]}, {"step": 9, "cut": 4}, {"step": 20, "cut": [1, 6, 7]}]


def training(aggregation, every, kind="adamw", lr=2.0e-3):
    what = experiment()["training"]
    what.update(aggregation=aggregation, aggregate_every=every, optimizer={"kind": kind, "lr": lr})
    return what


def worst_difference(ours, theirs):
    assert len(ours) == len(theirs) and ours, (len(ours), len(theirs))
    assert abs(ours[-1] - ours[0]) > 1e-2, "nothing was learnt: the comparison proves nothing"
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))


def cut_events(run):
    return [(e["step"], e["device"], e["from"], e["to"]) for e in run.events("edge", "cut")]


def test_gradients_do_not_notice_a_change_of_cut():
    for kind, lr in (("adamw", 2.0e-3), ("sgd", 0.5)):
        with Run(experiment(fleet=FLEET, training=training("gradients", 4, kind, lr), plan={"cut": [2, 5, 7], "changes": CHANGES},
                            run={"steps": 32})) as run:
            run.run_both()
            worst = worst_difference(run.losses(), central(run))
            assert worst <= 1e-6, worst
            assert len(run.events("edge", "cut")) == 4 + 4 + 4, cut_events(run)
            assert {step for step, *_ in cut_events(run)} == {8, 9, 20}
            assert {p["cut"] for p in run.events("sim", "phone")} == {1, 6, 7}
            assert run.events("edge", "end")[0]["old_cut_messages"] == 0
            print(f"   {kind}: worst relative difference {worst:.2g}")


def test_weights_of_one_device_stay_bit_identical():
    """Only so if the optimiser's moments go along, both ways."""
    changes = [{"step": 6, "cut": 5}, {"step": 11, "cut": 1}, {"step": 22, "cut": 7}]
    with Run(experiment(training=training("weights", 5), plan={"cut": 3, "changes": changes}, run={"steps": 40})) as run:
        run.run_both()
        losses, expected = run.losses(), central(run)
        assert losses == expected, next(i for i, (a, b) in enumerate(zip(losses, expected)) if a != b)
        assert [(s, f, t) for s, _, f, t in cut_events(run)] == [(10, 3, 5), (15, 5, 1), (25, 1, 7)]


def test_weights_of_several_devices_go_on():
    with Run(experiment(fleet=FLEET, training=training("weights", 4), plan={"cut": [2, 5, 7], "changes": CHANGES}, run={"steps": 32})) as run:
        run.run_both()
        losses, expected = run.losses(), central(run)
        assert worst_difference(losses, expected) < 0.05
        assert {step for step, *_ in cut_events(run)} == {8, 12, 20}


def test_weights_after_a_restart_are_those_of_an_undisturbed_run():
    """Killed right behind a boundary at which moments changed hands: the bytes of the adapter say whether they were lost."""
    changes = [{"step": 6, "cut": 5}, {"step": 11, "cut": 1}]
    images = []
    for disturbed_at in (None, 10, 15):
        what = experiment(fleet=[phone_class("one", compute_gflops=4)], training=training("weights", 5), plan={"cut": 3, "changes": changes},
                          run={"steps": 20})
        with Run(what) as run:
            sim, edge = run.start_sim(), run.start_edge()
            if disturbed_at:
                run.wait_for(lambda: len(run.events("edge", "step")) >= disturbed_at, "the step", processes=(sim, edge))
                edge = run.kill_and_restart(edge)
            codes = run.finish(edge, sim)
            assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(sim)[-3000:]}"
            images.append(run.adapter())
    assert all(i == images[0] for i in images), [i == images[0] for i in images]


def test_restart_after_a_change():
    """The edge is killed once the cut has changed, and again has the one of its checkpoint."""
    changes = [{"step": 6, "cut": [5, 1, 2]}, {"step": 26, "cut": [3, 3, 3]}]
    with Run(experiment(fleet=FLEET, training=training("gradients", 4), plan={"cut": [2, 5, 7], "changes": changes}, run={"steps": 36})) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "step")) >= 14, "14 steps", processes=[edge])
        edge.send_signal(signal.SIGKILL)
        edge.wait()
        edge = run.start_edge()
        codes = run.finish(edge, sim)
        assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(sim)[-3000:]}"
        last = {}
        for e in run.events("edge", "step"):
            last[e["step"]] = e["loss"]
        assert sorted(last) == list(range(1, 37))
        run.losses = lambda: [0.0] * 36
        expected = central(run)
        worst = max(abs(last[i + 1] - expected[i]) / expected[i] for i in range(36))
        assert worst <= 1e-6, worst


run_tests(globals())
