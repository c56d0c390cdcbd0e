#!/usr/bin/python3
"""scripts/sweep: seeds and settings, kept runs, Ctrl-C; its intervals against the textbook's."""
import importlib.machinery
import importlib.util
import json
import math
import os
import signal
import subprocess
import tempfile
import time

import yaml

from harness import BUILD, ROOT, Skip, experiment, run_tests

SWEEP = os.path.join(ROOT, "scripts", "sweep")
TIMEOUT_S = 300


def module():
    loader = importlib.machinery.SourceFileLoader("sweep", SWEEP)
    found = importlib.util.module_from_spec(importlib.util.spec_from_loader("sweep", loader))
    loader.exec_module(found)
    return found


def small_experiment(work, **run):
    if not os.path.isdir("/usr/share/games/fortunes"):
        raise Skip("Debian's package fortunes")
    what = experiment(run={"steps": 5, "dir": os.path.join(work, "runs"), **run})
    what["data"]["held_out_windows"] = 4
    file = os.path.join(work, "small.yaml")
    with open(file, "w", encoding="utf-8") as f:
        yaml.safe_dump(what, f)
    return file


def start(*arguments):
    return subprocess.Popen([SWEEP, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                            env={**os.environ, "SLUICE_BUILD": BUILD})


def sweep(*arguments, expect=0):
    process = start(*arguments)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == expect, (process.returncode, out[-2000:], err[-2000:])
    return out, err


def test_intervals_are_students():
    s = module()
    found = s.interval([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t(0.975, 2 degrees) times sd 1 over sqrt(3)
    assert abs(found["mean"] - 2) < 1e-12 and found["sd"] == 1, found
    assert abs(found["ci95"][0] - (2 - half)) < 1e-3 and abs(found["ci95"][1] - (2 + half)) < 1e-3, found
    assert s.interval([5.0])["ci95"] is None
    assert s.t975(22) == s.t975(20) > s.t975(1000) > 1.96


def test_values_with_commas_and_places_in_lists():
    s = module()
    assert [v for _, _, v in s.parse_set("plan.cut=[4,2],[2,2]")] == [[4, 2], [2, 2]]
    assert [v for _, _, v in s.parse_set("training.optimizer.lr=1e-3,3e-3")] == [1e-3, 3e-3]
    what = {"fleet": [{"count": 1}]}
    s.put(what, "fleet.0.link.loss", 0.1)
    assert what == {"fleet": [{"count": 1, "link": {"loss": 0.1}}]}
    for key in "fleet.7.count", "fleet.x.count":
        try:
            s.put(what, key, 1)
        except s.Failure:
            continue
        raise AssertionError(key)


def test_seeds_and_settings_then_kept_then_more():
    with tempfile.TemporaryDirectory(prefix="sluice-sweep-") as work:
        file, where = small_experiment(work, yardstick=True), os.path.join(work, "there")
        arguments = [file, "--set", "training.optimizer.lr=1e-3,2e-2", "--dir", where]
        first, _ = sweep(*arguments, "--seeds", "2", "--json")
        j = json.loads(first)
        assert [s["changes"] for s in j["settings"]] == [{"training.optimizer.lr": 1e-3}, {"training.optimizer.lr": 2e-2}] and not j["failures"], j
        for s in j["settings"]:
            assert s["seeds"] == [1, 2] and s["nll_after"]["n"] == 2 and s["nll_after"]["ci95"][0] < s["nll_after"]["mean"] < s["nll_after"]["ci95"][1], s
            assert s["nll_after_fedlora"]["n"] == 2 and len(s["curve"]["mean"]) == 5, s
        a, b = j["settings"]
        # What differs between the settings is the rate, and between the seeds the seed; the sweep's numbers are those of its runs' summaries.
        assert abs(b["nll_after_difference"]["mean"] - (b["nll_after"]["mean"] - a["nll_after"]["mean"])) < 1e-9 and "nll_after_difference" not in a, j
        assert abs(b["nll_after_difference"]["mean"]) > 1e-4, "the rate changed nothing"
        runs = []
        for folder, _, names in os.walk(where):
            if "summary.json" in names:
                with open(os.path.join(folder, "summary.json"), encoding="utf-8") as f, open(os.path.join(folder, "experiment.yaml"), encoding="utf-8") as e:
                    what = yaml.safe_load(e)
                    runs.append((what["training"]["optimizer"]["lr"], what["seed"], json.load(f)["nll_after"]))
        assert sorted(r[:2] for r in runs) == [(1e-3, 1), (1e-3, 2), (2e-2, 1), (2e-2, 2)], runs
        assert abs(sum(r[2] for r in runs if r[0] == 1e-3) / 2 - a["nll_after"]["mean"]) < 1e-9, (runs, a)
        for name in "sweep.md", "sweep.json", "sweep.svg":
            assert os.path.getsize(os.path.join(where, name)) > 0, name

        began = time.monotonic()
        again, err = sweep(*arguments, "--seeds", "2", "--json")
        assert again == first and err.count(", kept") == 4 and time.monotonic() - began < 5, err
        _, err = sweep(*arguments, "--seeds", "3")
        assert err.count(", kept") == 4 and err.count("seed 3") == 2, err
        with open(file, "a", encoding="utf-8") as f:
            f.write("# changed\n")
        _, err = sweep(*arguments, expect=1)
        assert "another version" in err and len(err.strip().splitlines()) == 1, err


def test_ctrl_c_ends_cleanly_and_the_rest_is_done_later():
    with tempfile.TemporaryDirectory(prefix="sluice-sweep-") as work:
        file, where = small_experiment(work), os.path.join(work, "there")
        process = start(file, "--seeds", "3", "--dir", where)
        end = time.monotonic() + TIMEOUT_S
        while not os.path.exists(os.path.join(where, "plain", "seed-1", "summary.json")):
            assert process.poll() is None and time.monotonic() < end, "the first run did not end"
            time.sleep(0.02)
        while not os.path.exists(os.path.join(where, "plain", "seed-2.log")):
            assert process.poll() is None and time.monotonic() < end, "the second run did not begin"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 130 and "the same command goes on" in err and "as the file has it" in out, (process.returncode, out, err)
        _, err = sweep(file, "--seeds", "3", "--dir", where)
        assert err.count(", kept") in (1, 2) and "seed 3" in err, err


def test_mistakes_are_one_line():
    with tempfile.TemporaryDirectory(prefix="sluice-sweep-") as work:
        file = small_experiment(work)
        for arguments, says in [(["/nonexistent.yaml"], "no such file"), ([file, "--set", "seed"], "KEY=VALUE"), ([file, "--set", "fleet.9.count=1"], "fleet.9.count"),
                                ([file, "--dir", "/usr"], "/usr")]:
            _, err = sweep(*arguments, expect=1)
            assert says in err and len(err.strip().splitlines()) == 1, err
        # A key that the experiment file does not know is every run's failure, with its reason.
        out, err = sweep(file, "--seeds", "1", "--set", "training.speed=9", expect=1)
        assert "training.speed" in err or "speed" in err, err
        assert "no run was finished" in out, out


run_tests(globals())
