#!/usr/bin/python3
"""The comparison's arithmetic (scripts/baselines.py) against sums done by hand, and its plots as documents."""
import importlib.machinery
import importlib.util
import json
import os
import sys
import tempfile
import types
import xml.etree.ElementTree

from harness import ROOT, run_tests

sys.path.insert(0, os.path.join(ROOT, "scripts"))
import baselines  # noqa: E402
import plot  # noqa: E402

FAST = {"class": "fast", "count": 1, "compute_gflops": 4, "compute_w": 4, "radio_tx_w": 1, "radio_rx_w": 0.5, "idle_w": 0.25,
        "link": {"up_mbps": 8, "down_mbps": 16, "rtt_ms": 100}}
SLOW = {"class": "slow", "count": 2, "compute_gflops": 2, "compute_w": 2, "radio_tx_w": 1, "radio_rx_w": 0.5,
        "link": {"up_mbps": 4, "down_mbps": 8, "rtt_ms": 200}}
FLEET = {"fleet": [FAST, SLOW]}


def close(a, b):
    assert len(a) == len(b) and all(abs(x - y) <= 1e-9 * max(1, abs(y)) for x, y in zip(a, b)), (a, b)


def test_fedlora_by_hand():
    # The fast phone: 3 steps of 4 GFLOP, a second each. One slow phone (fleet index 2): 5 steps of 4 GFLOP, two seconds each. 1 MB adapters:
    # fast 1 s up, 0.5 s down; slow 2 s up, 1 s down.
    fed = {"losses": [5, 4, 3, 2, 1], "steps": 5, "adapter_bytes": 1e6, "phones": [{"steps": 3, "flop": 12e9}, {"steps": 5, "flop": 20e9}]}
    c = baselines.fedlora_curve(fed, [0, 2], 2, FLEET)
    # Round 1: steps 1, 2: the slow phone's 2 x 2 + 2 + 1 + 0.2. Round 2: the fast one has one step left. Round 3: only the slow one.
    close(c["seconds"], [2, 7.2, 9.2, 14.4, 14.4 + 2 + 3.2])
    close(c["bytes"], [0, 4e6, 4e6, 8e6, 10e6])
    fast1 = 4 * 2 + 1 * 1 + 0.5 * 0.5 + 0.25 * (7.2 - 2)
    slow1 = 2 * 4 + 1 * 2 + 0.5 * 1 + 0.3 * (7.2 - 4)  # 0.3 W: the default idle power
    fast2 = 4 * 1 + 1 * 1 + 0.5 * 0.5 + 0.25 * (7.2 - 1)
    slow3 = 2 * 2 + 1 * 2 + 0.5 * 1 + 0.3 * 3.2
    close(c["joules"], [4 * 1 + 0.25 * 1 + 2 * 2, fast1 + slow1, fast1 + slow1 + 4 * 1 + 0.25 * 1 + 2 * 2, fast1 + 2 * slow1 + fast2,
                        fast1 + 2 * slow1 + fast2 + slow3])


def test_central_by_hand():
    # 3 windows of 1000 ids a step: 4 kB each, 4 ms and 50 ms on the fast phone's link, 8 and 100 on the slow ones'; 3000 tokens at 10,000/s.
    c = baselines.central_curve([3, 2], 3000, 10000, 3, 1000, FLEET)
    step_s = 0.108 + 0.3
    close(c["seconds"], [step_s, 2 * step_s])
    close(c["bytes"], [12000, 24000])
    step_j = 1 * 0.004 + 0.25 * step_s + 2 * (1 * 0.008 + 0.3 * step_s)
    close(c["joules"], [step_j, 2 * step_j])


def test_split_reads_between_the_seconds():
    totals = [{"t": 10 + i, "bytes_up": 100 * i, "bytes_down": 50 * i, "energy_j": 10 * i} for i in range(5)]
    steps = {2: {"t": 13.5, "loss": 1.0}, 1: {"t": 12.0, "loss": 2.0}}
    c = baselines.split_curve(steps, totals, 11.0)
    assert c["loss"] == [2.0, 1.0]
    close(c["seconds"], [1, 2.5])
    close(c["bytes"], [150, 375])
    close(c["joules"], [10, 25])
    assert baselines.split_curve({}, totals, None) is None and baselines.split_curve(steps, [], None) is None


def test_long_curves_are_thinned_and_keep_their_end():
    n = 1037
    c = baselines.thin({"loss": list(range(n)), "seconds": list(range(n))})
    assert len(c["loss"]) <= baselines.POINTS_MAX and c["step"][-1] == n and c["loss"][-1] == n - 1
    assert baselines.smooth([4, 2, 6], 2) == [4, 3, 4]


def test_windows_go_back_to_their_phones():
    with tempfile.TemporaryDirectory(prefix="sluice-baselines-") as work:
        for name, lines in (("central.ids", ["1 2", "3 4", "5 6"]), ("central.phones", ["3", "0", "3"])):
            with open(os.path.join(work, name), "w", encoding="utf-8") as f:
                f.writelines(line + "\n" for line in lines)
        found = baselines.split_windows(work)
        assert [p for p, _ in found] == [0, 3]
        with open(found[1][1], encoding="utf-8") as f:
            assert f.read() == "1 2\n5 6\n"


def test_plots_are_whole_documents():
    with tempfile.TemporaryDirectory(prefix="sluice-baselines-") as work:
        path = os.path.join(work, "x.svg")
        lines = [plot.Series("a & b <c>", [0, 1, 100], [1, 2, 3], [0.5, 1, 2], [2, 3, 4]), plot.Series("one point", [5], [2], marks=True)]
        plot.write(path, [plot.Panel("linear", "x", "y", lines), plot.Panel("logarithmic", "x", "y", lines, log_x=True),
                          plot.Panel("flat", "x", "y", [plot.Series("flat", [1, 2], [0, 0])])])
        svg = xml.etree.ElementTree.parse(path).getroot()
        space = "{http://www.w3.org/2000/svg}"
        width, height = float(svg.get("width")), float(svg.get("height"))
        assert len(svg.findall(space + "polyline")) == 5 and len(svg.findall(space + "polygon")) == 2
        for line in svg.findall(space + "polyline"):
            for point in line.get("points").split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= width and 0 <= y <= height, point
        text = [t.text for t in svg.findall(space + "text")]
        assert "a & b <c>" in text and "flat" in text and "0" in text
        assert [plot.number(v) for v in (0.05, 2.5, 300, 20000, 1.5e6)] == ["0.05", "2.5", "300", "20k", "1.5M"]


def load_run():
    """scripts/run as a module."""
    loader = importlib.machinery.SourceFileLoader("run", os.path.join(ROOT, "scripts", "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
    loader.exec_module(module)
    return module


def test_no_yardstick_for_a_schedule_that_was_cut_short():
    """The split run's rate fell over run.steps; a central run of fewer steps would fall faster."""
    run = load_run()
    experiment = {"data": {}, "fleet": [FAST], "training": {"optimizer": {"schedule": "cosine"}}, "run": {"steps": 3}}
    args = types.SimpleNamespace(resume=None)
    with tempfile.TemporaryDirectory() as run_dir:
        for steps in (2, 3):
            with open(os.path.join(run_dir, "edge.jsonl"), "a", encoding="utf-8") as f:
                for step in range(1, steps + 1):
                    f.write(json.dumps({"event": "step", "step": step}) + "\n")
            reason = run.no_yardstick(args, experiment, run_dir)
            assert (reason is None) == (steps == 3), reason
        experiment["training"], experiment["run"]["steps"] = {}, 60
        assert run.no_yardstick(args, experiment, run_dir) is None, "a constant rate falls over nothing"
        experiment["fleet"] = [FAST, {**SLOW, "link": {"trace": {"up": "a", "down": "b"}, "rtt_ms": 20}}]
        assert "no such rates" in run.no_yardstick(args, experiment, run_dir)


run_tests(globals())
