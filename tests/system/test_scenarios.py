#!/usr/bin/python3
"""Every scenario is understood and runs in virtual time; its profile and its plot say what it did; what drives the links is what the script makes."""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree

import yaml

from harness import BUILD, ROOT, SIM, Skip, run_tests

FOLDER = os.path.join(ROOT, "device-sim", "scenarios")
CHEAP = ["office", "rural-lte", "night-charging"]  # seconds of host time each; the others are only read here, and run by the next test
REAL_TIME = ["ten-thousand", "ten-thousand-radio"]  # for real connections and packets; not in the table
LARGE = ["commuter-train", "flash-crowd", "mixed-100", "stadium"]


def sim(*extra):
    return subprocess.run([SIM, *extra], cwd=ROOT, capture_output=True, text=True, timeout=300)


def names():
    return sorted(os.path.basename(path)[:-5] for path in glob.glob(os.path.join(FOLDER, "*.yaml")))


def test_all_are_there_and_say_why():
    assert set(CHEAP + LARGE + REAL_TIME + ["demo"]) == set(names()), names()
    with open(os.path.join(FOLDER, "README.md"), encoding="utf-8") as f:
        readme = f.read()
    for name in names():
        with open(os.path.join(FOLDER, name + ".yaml"), encoding="utf-8") as f:
            text = f.read()
        assert text.startswith("# ") and yaml.safe_load(text)["name"] == name, name
        assert f"`{name}.yaml`" in readme and (name in ["demo", *REAL_TIME] or f"`{name}`, " in readme), f"{name} is missing in the README, or in its table"


def test_all_are_understood():
    done = subprocess.run([os.path.join(ROOT, "scripts", "scenarios"), "--check", "--build", BUILD], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.count("ok ") == len(names()), done.stdout + done.stderr


def run_one(name, work):
    if not os.path.isdir("/usr/share/games/fortunes"):
        raise Skip("Debian's package fortunes")
    run = os.path.join(work, name)
    done = sim("--experiment", os.path.join(FOLDER, name + ".yaml"), "--run", run, "--virtual", "--events", "none", "--json")
    assert done.returncode == 0, f"{name}\n{done.stdout[-800:]}\n{done.stderr[-800:]}"
    end = json.loads(done.stdout)
    assert end["steps"] > 0, (name, end)
    for side in ("up", "down"):
        d = end[side]
        assert d["offered"] == d["delivered"] + d["under_way"] + sum(d["drops"].values()), (name, side, d)
    shutil.copyfile(os.path.join(FOLDER, name + ".yaml"), os.path.join(run, "experiment.yaml"))
    told = sim("--profile", run, "--json")
    assert told.returncode == 0, told.stderr
    profile = json.loads(told.stdout)
    with open(os.path.join(FOLDER, name + ".yaml"), encoding="utf-8") as f:
        fleet = yaml.safe_load(f)["fleet"]
    classes = fleet["classes"] if isinstance(fleet, dict) else fleet
    assert [c["class"] for c in profile["classes"]] == [c["class"] for c in classes], name
    for c in profile["classes"]:
        up = c["up"]
        assert 0 < up["carried_mbit_s"] <= up["offered_mbit_s"] <= up["allowed_mbit_s"], (name, up)
        assert abs(sum(c["states"].values()) - 1) < 0.01 and abs(sum(c["radios"].values()) - 1) < 0.01, (name, c["states"], c["radios"])
        assert c["energy_j"]["compute"] > 0 and c["bursts"]["kib"]["n"] > 0, (name, c)
    drawn = subprocess.run([os.path.join(ROOT, "scripts", "plot"), run], capture_output=True, text=True, timeout=60)
    assert drawn.returncode == 0, drawn.stderr
    tree = xml.etree.ElementTree.parse(os.path.join(run, "traffic.svg"))
    assert len(tree.getroot()) > 100, name
    return drawn.stdout


def test_cheap_ones_run():
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as work:
        for name in CHEAP:
            told = run_one(name, work)
            if name == "office":  # a link that a record drives never carries more than it
                over = [int(n) for n in re.findall(r"more than that: (\d+)", told)]
                assert over and not any(over), told


def test_large_ones_run():
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as work:
        for name in LARGE:
            run_one(name, work)


def test_train_is_handed_over_and_the_same_again():
    if not os.path.isdir("/usr/share/games/fortunes"):
        raise Skip("Debian's package fortunes")
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as work:
        events = []
        for run in (os.path.join(work, "a"), os.path.join(work, "b")):
            done = sim("--experiment", os.path.join(FOLDER, "commuter-train.yaml"), "--run", run, "--virtual", "--events", "packets", "--json")
            assert done.returncode == 0, done.stderr[-800:]
            with open(os.path.join(run, "events.jsonl"), "rb") as f:
                events.append(f.read())
        assert len(events[0]) > 1000000 and events[0] == events[1]
        end = json.loads(done.stdout)
        assert end["endpoint"]["drops"]["unknown_session"] == 0 and not any(end["up"]["drops"].values()), end
        told = json.loads(sim("--profile", run, "--json").stdout)
        for c in told["classes"]:
            assert c["cell"]["used"] >= 3 and c["cell"]["handovers"] >= 1, c["cell"]
            assert c["cell"]["snr_up_db"]["p10"] < c["cell"]["snr_up_db"]["p90"] - 6, c["cell"]


def test_links_are_those_that_the_script_makes():
    links = os.path.join(FOLDER, "links")
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as work:
        # A checkout of its own, so that nothing here is written over.
        os.makedirs(os.path.join(work, "device-sim", "scenarios", "links"))
        shutil.copytree(os.path.join(ROOT, "scripts"), os.path.join(work, "scripts"))
        subprocess.run([os.path.join(work, "scripts", "scenarios"), "--links"], check=True, timeout=60)
        made = os.path.join(work, "device-sim", "scenarios", "links")
        assert sorted(os.listdir(made)) == sorted(os.listdir(links))
        for name in os.listdir(links):
            with open(os.path.join(links, name), encoding="utf-8") as a, open(os.path.join(made, name), encoding="utf-8") as b:
                assert a.read() == b.read(), name


def test_bad_runs_are_refused():
    done = sim("--profile", "/nonexistent")
    assert done.returncode == 1 and "/nonexistent/traffic.jsonl" in done.stderr, done.stderr
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as work:
        with open(os.path.join(work, "traffic.jsonl"), "w", encoding="utf-8") as f:
            f.write("nothing\n")
        open(os.path.join(work, "sim.jsonl"), "w", encoding="utf-8").close()
        done = sim("--profile", work)
        assert done.returncode == 1 and "traffic.jsonl:1: " in done.stderr, done.stderr
        drawn = subprocess.run([os.path.join(ROOT, "scripts", "plot"), work], capture_output=True, text=True)
        assert drawn.returncode == 1 and "traffic.jsonl:1: " in drawn.stderr, drawn.stderr


run_tests(globals())
