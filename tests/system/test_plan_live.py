#!/usr/bin/python3
"""plan.cut: auto, over the real path: cuts follow the phones' speeds, no step is lost, the losses are those of the same changes by plan."""
import re

from harness import Run, central, experiment, one_line_error, phone_class, run_tests

# Measured times decide: the slow phone's layers take it long, the fast one's next to nothing.
FLEET = [phone_class("slow", compute_gflops=0.6), phone_class("fast", compute_gflops=50)]
STEPS = 60
PATIENCE_S = 10  # docs/planner.md: then the first plan has those that are known, and later plans have all


def training(aggregation="gradients", every=4, kind="adamw", lr=2.0e-3, **more):
    what = experiment()["training"]
    what.update(aggregation=aggregation, aggregate_every=every, optimizer={"kind": kind, "lr": lr}, deterministic=False,
                gang={"quorum": 1, "deadline": 60}, **more)
    return what


def live(plan=None, fleet=None, steps=STEPS, **changes):
    what = experiment(fleet=fleet or FLEET, run={"steps": steps}, plan={"cut": "auto", "start_cut": 4, "weights": {"delay": 1, "energy": 0.01}, "replan_s": 2, **(plan or {})},
                      **{"training": training(), **changes})
    what["edge"]["heartbeat_ms"] = 200
    return what


def cuts(run):
    return [(e["step"], e["device"], e["from"], e["to"]) for e in run.events("edge", "cut")]


def last_cuts(run):
    return {p["class"]: p["cut"] for p in run.events("sim", "phone")}


def as_changes(run):
    """The cuts that the planner made, as plan.changes of classes of one phone each."""
    now, changes = [4] * len(run.experiment["fleet"]), {}
    for step, device, _, to in cuts(run):
        now[int(device[-5:])] = to
        changes[step] = list(now)
    return [{"step": step, "cut": cut} for step, cut in sorted(changes.items())]


def worst_difference(ours, theirs):
    assert len(ours) == len(theirs) and ours, (len(ours), len(theirs))
    assert abs(ours[-1] - ours[0]) > 1e-2, "nothing was learnt: the comparison proves nothing"
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))


def check_plans(run):
    plans = run.events("edge", "plan")
    assert plans and plans[0]["reason"] == "first", plans
    began = next(e["t"] for e in run.events("edge", "phase") if e["phase"] == "train")
    everybody = [p["planned"] == len(run.experiment["fleet"]) for p in plans]
    assert everybody == sorted(everybody) and everybody[-1], plans
    for p, whole in zip(plans, everybody):
        assert p["objective"] <= p["objective_now"] * (1 + 1e-6), p
        assert p["planned"] == p["devices"] == len(p["users"]), p
        assert whole or p["t"] - began >= PATIENCE_S, p
    changed = sum(p["changed"] for p in plans)
    assert changed >= len(run.events("edge", "cut")) > 0, (changed, cuts(run))
    return plans


def test_cuts_follow_speeds_and_losses_do_not_notice():
    with Run(live()) as run:
        run.run_both()
        check_plans(run)
        found = last_cuts(run)
        assert found["slow"] < 4 and found["slow"] < found["fast"], (found, cuts(run))
        assert [e["step"] for e in run.events("edge", "step")] == list(range(1, STEPS + 1))
        end = run.events("edge", "end")[0]
        assert end["old_cut_messages"] == 0, end
        worst = worst_difference(run.losses(), central(run))
        assert worst <= 1e-6, worst
        print(f"   cuts {cuts(run)}; worst relative difference to central training {worst:.2g}")


def test_weights_are_those_of_the_same_changes_by_plan():
    with Run(live(training=training("weights", 5))) as run:
        run.run_both()
        check_plans(run)
        changes, losses = as_changes(run), run.losses()
        assert last_cuts(run)["slow"] < 4, cuts(run)
    again = experiment(fleet=FLEET, run={"steps": STEPS}, plan={"cut": 4, "changes": changes}, training={**training("weights", 5), "deterministic": True})
    again["training"].pop("gang")
    for phone in again["fleet"]:
        phone["compute_gflops"] = 1000
    with Run(again) as run:
        run.run_both()
        worst = worst_difference(losses, run.losses())
        assert worst <= 1e-6, worst
        print(f"   {changes}: worst relative difference {worst:.2g}")



def test_restart_goes_on_with_the_cuts_of_its_checkpoint():
    """The edge is killed once cuts have changed; every step is there once, at the loss of central training."""
    with Run(live()) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: cuts(run) and len(run.events("edge", "step")) >= cuts(run)[-1][0] + 6, "steps after a change", processes=(sim, edge))
        changed = {device: to for _, device, _, to in cuts(run)}
        before = len(run.events("edge", "join"))
        edge = run.kill_and_restart(edge)
        codes = run.finish(edge, sim)
        assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(sim)[-3000:]}"
        joined = {e["device"]: e["cut"] for e in run.events("edge", "join")[before:]}
        assert joined == {device: changed.get(device, 4) for device in joined} and len(joined) == len(FLEET), (joined, changed)
        last = {e["step"]: e["loss"] for e in run.events("edge", "step")}
        assert sorted(last) == list(range(1, STEPS + 1))
        run.losses = lambda: [last[i] for i in sorted(last)]
        worst = worst_difference(run.losses(), central(run))
        assert worst <= 1e-6, worst


def test_bounds_hold():
    """The file's, and what memory_mib holds of layers. On a starved host the slow phone's last step to its bound is worth little: no hysteresis."""
    fleet = [*FLEET, phone_class("small", compute_gflops=50, memory_mib=12)]
    with Run(live(fleet=fleet, plan={"min_cut": [3, 1, 1], "max_cut": [7, 5, 7], "hysteresis": 0})) as run:
        edge, _ = run.run_both()
        check_plans(run)
        held = int(re.search(r"class small: its memory holds (\d) layers at most", run.output(edge)).group(1))
        assert 1 < held < 7
        assert last_cuts(run) == {"slow": 3, "fast": 5, "small": held}, (held, cuts(run))


def test_asynchronous_gangs_and_the_published_objective():
    """Each phone's cut changes at a push of its own; nothing is refused as stale, nobody's steps are thrown away."""
    what = live({"objective": "printed"}, training=training("weights", 4), fleet=[FLEET[0], phone_class("fast", compute_gflops=10)])
    what["training"]["gang"], what["run"] = {"policy": "async"}, {"steps": 160}
    with Run(what) as run:
        run.run_both()
        check_plans(run)
        found = last_cuts(run)
        # Whether a layer is cheaper on the fast phone than on the edge is the affair of the host and its load.
        assert found["slow"] < 4 and found["slow"] <= found["fast"], (found, cuts(run))
        assert not run.events("edge", "refused"), run.events("edge", "refused")
        assert run.events("edge", "end")[0]["old_cut_messages"] == 0


def test_refused_with_one_line():
    for changes, text in (({"training": {**training(), "deterministic": True}}, "no deterministic run does"),
                          ({"plan": {"max_cut": 9}}, "the model's 8 layers allow 1 to 7")):
        with Run(live(**changes)) as run:
            for edge in (run.start_edge(), run.start_sim()):
                assert run.finish(edge) == [1]
                assert text in one_line_error(run.output(edge)), run.output(edge)
    with Run(live()) as run:
        sim = run.start_sim("--virtual")
        assert run.finish(sim) == [1]
        assert "--virtual has no plan.cut: auto" in one_line_error(run.output(sim)), run.output(sim)

run_tests(globals())
