#!/usr/bin/python3
"""scripts/consistency: a small study through, its figures against its own rows, kept results, and an error in one line."""
import csv
import json
import math
import os
import statistics
import subprocess
import tempfile

from harness import BUILD, ROOT, Skip, run_tests

STUDY = [os.path.join(ROOT, "scripts", "consistency"), "--build", BUILD]
SMALL = ["--seeds", "2", "--steps", "10", "--alphas", "0.1", "--mu", "0,0.5", "--target", "100"]


def study(*arguments):
    return subprocess.run([*STUDY, *arguments], capture_output=True, text=True, check=False)


def test_two_seeds_with_and_without_the_term():
    if not os.path.isdir("/usr/share/games/fortunes"):
        raise Skip("Debian's package fortunes")
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as work:
        done = study(*SMALL, "--dir", work, "--json")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert [(s["mu"], s["seeds"], s["reached"]) for s in result["settings"]] == [(0, 2, 2), (0.5, 2, 2)]
        plain, held_back = result["settings"]
        for s in result["settings"]:
            worst = [r["worst"] for r in result["rows"] if r["mu"] == s["mu"]]
            assert len(worst) == 2 and math.isclose(s["worst"]["mean"], statistics.fmean(worst))
            assert all(r["worst"] >= r["median"] > 1 and r["spread"] > 0 and r["steps"] == 10 and r["seconds"] > 0 for r in result["rows"])
        assert held_back["median"]["mean"] != plain["median"]["mean"], "the term changed nothing: it is not in use"
        gap = held_back["median"]["mean"] - plain["median"]["mean"]
        assert math.isclose(held_back["difference"]["median"]["mean"], gap, abs_tol=1e-9)
        low, high = held_back["difference"]["median"]["ci95"]
        assert low <= gap <= high
        with open(os.path.join(work, "consistency.csv"), encoding="utf-8") as f:
            assert len(list(csv.DictReader(f))) == 4
        again = study(*SMALL, "--dir", work)  # from what is kept
        assert again.returncode == 0 and f"{plain['worst']['mean']:.4f}" in again.stdout, again.stdout


def test_too_little_text_is_said_in_one_line():
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as work:
        text = os.path.join(work, "short.txt")
        with open(text, "w", encoding="utf-8") as f:
            f.write("too little\n")
        done = study(*SMALL, "--dir", os.path.join(work, "study"), "--text", text)
        assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1 and "sluice-sim" in done.stderr, done.stderr


run_tests(globals())
