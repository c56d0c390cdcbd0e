#!/usr/bin/python3
"""scripts/compare-torch: both sides run the same work, and every ratio is there. No figure is judged."""
import json
import math
import os
import subprocess

from harness import BUILD, ROOT, Skip, run_tests

TIMEOUT_S = 600
SKIPPED = 77


def compare(*arguments):
    done = subprocess.run([os.path.join(ROOT, "scripts", "compare-torch"), *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
                          env={**os.environ, "SLUICE_BUILD": BUILD})
    if done.returncode == SKIPPED:
        assert done.stderr.startswith("SKIP: ") and "python3-torch" in done.stderr, done.stderr
        raise Skip("Debian's package python3-torch")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_sides_step_in_turn():
    j = json.loads(compare("--layers", "1", "--batch", "1", "--seq", "16", "--rounds", "5", "--json"))
    for precision, ways in (("f32", {"plain", "tuned"}), ("bf16", {"autocast", "autocast_tuned", "autocast_bf16_weights_tuned"})):
        r = j[precision]
        if "skipped" in r:
            print("   SKIP", r["skipped"])
            continue
        assert set(r["torch"]) == ways and r["fastest_torch"] in ways, r
        for side in (r["sluice"], *r["torch"].values()):
            assert side["tokens_per_s"] > 0 and side["peak_memory_bytes"] > 4 * 50257 * 768 / 2, side
            # Random weights, random targets: a model that is not broken starts near ln(vocabulary).
            assert abs(side["loss_last"] - math.log(50257)) < 1, side
        for way in r["torch"].values():
            assert way["faster_by_cpu_time"] > 0 and way["ratio_min"] <= way["sluice_is_faster_by"] <= way["ratio_max"], way


run_tests(globals())
