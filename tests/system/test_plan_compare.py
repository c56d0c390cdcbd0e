#!/usr/bin/python3
"""scripts/plan-compare: two plans of one scenario over the real path, kept runs; random cuts are the drawn ones; a slower edge's time."""
import json
import os
import subprocess
import tempfile

from harness import BUILD, ROOT, Run, Skip, experiment, phone_class, run_tests

STEPS = 8


def compare(where, *arguments):
    done = subprocess.run([os.path.join(ROOT, "scripts", "plan-compare"), "--seeds", "1", "--scenario", "weak-phones", "--steps", str(STEPS), "--dir", where, "--json",
                           *arguments], capture_output=True, text=True, cwd=ROOT, env={**os.environ, "SLUICE_BUILD": BUILD}, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout), done.stderr


def test_two_plans_and_kept_runs():
    if not os.path.isdir("/usr/share/games/fortunes"):
        raise Skip("Debian's package fortunes")
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as where:
        result, _ = compare(where, "--policy", "middle", "cut-1")
        found = result["scenarios"]["weak-phones"]["policies"]
        assert found["middle"]["cuts"] == [4] * 6 and found["cut-1"]["cuts"] == [1] * 6, found
        for p in found.values():
            assert 0 < p["joules"]["mean"] <= p["worst_joules"]["mean"] * (1 + 1e-9) and p["seconds"]["mean"] > 0, p
        assert found["middle"]["cost"]["mean"] == 1
        assert found["cut-1"]["joules"]["mean"] < found["middle"]["joules"]["mean"], found  # three layers less, at 3 W each
        again, said = compare(where, "--policy", "middle", "cut-1")
        assert said.count(", kept") == 2 and again == result, said


def test_random_cuts_are_drawn_once_for_each_phone():
    cuts = {}
    for again in range(2):
        with Run(experiment(fleet=[phone_class("fast", 12)], plan={"cut": "random", "min_cut": 2, "max_cut": 6}, run={"steps": 2})) as run:
            run.run_both()
            cuts[again] = [p["cut"] for p in sorted(run.events("sim", "phone"), key=lambda p: p["index"])]
            joined = {e["device"]: e["cut"] for e in run.events("edge", "join")}
            assert [joined[d] for d in sorted(joined)] == cuts[again]
    assert cuts[0] == cuts[1] and len(set(cuts[0])) > 2 and set(cuts[0]) <= set(range(2, 7)), cuts


def test_real_edge_is_held_back_and_computes_the_same():
    losses, gang_ms = {}, {}
    for speed in (None, 0.2):
        what = experiment(run={"steps": 4})
        if speed:
            what["edge"]["compute_gflops"] = speed
        with Run(what) as run:
            run.run_both()
            losses[speed] = run.losses()
            gang_ms[speed] = min(e["compute_ms"] for e in run.events("edge", "step"))
    # A window of 31 rows through four blocks of 393,216 weights, forward and back, is at least 4 FLOP a weight and row.
    assert gang_ms[0.2] >= 4 * 393216 * 31 * 4 / 0.2e9 * 1e3, gang_ms
    assert losses[None] == losses[0.2], losses


run_tests(globals())
