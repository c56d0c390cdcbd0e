#!/usr/bin/python3
"""The main job, as a user runs it: scripts/run on the bundled scenario, and what its summary must say."""
import json
import os
import subprocess
import tempfile

from harness import BUILD, ROOT, run_tests

KEYS = ["devices", "steps", "tokens", "tokens_per_s", "nll_before", "nll_after", "nll_ci95", "nll_after_central", "nll_after_fedlora", "comparison", "bytes_up", "bytes_down",
        "packets_rx", "drops", "retransmits", "latency_p99_ms", "host_bound", "backend", "wall_s", "phones"]

# Rank 8 on all seven linear layers of the bundled model's eight blocks, f32: d 192, k and v 64, ff 512.
ADAPTER_BYTES = 4 * 8 * 8 * (2 * (192 + 192) + 2 * (192 + 64) + 3 * (192 + 512))


def run_demo(work, *arguments):
    summary = os.path.join(work, "summary.json")
    done = subprocess.run([os.path.join(ROOT, "scripts", "run"), "device-sim/scenarios/demo.yaml", "--json", summary, "--build", BUILD,
                           *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with open(summary, encoding="utf-8") as f:
        return json.load(f), done.stdout


def test_main_job():
    with tempfile.TemporaryDirectory(prefix="sluice-demo-") as work:
        run_dir = os.path.join(work, "run")
        # Sanitized builds are several times slower: the cap on training time must not be what ends this run.
        s, text = run_demo(work, "--dir", run_dir, "--seconds", "900")
        assert all(k in s for k in KEYS), [k for k in KEYS if k not in s]
        assert s["devices"] == 8 and s["steps"] == 60 and len(s["phones"]) == 8
        assert {p["cut"] for p in s["phones"]} == {2, 4} and len({p["class"] for p in s["phones"]}) == 2
        assert all(p["energy_j"] > 0 and p["bytes_up"] > 0 and p["bytes_down"] > 0 for p in s["phones"])
        fall, central = s["nll_before"] - s["nll_after"], s["nll_before"] - s["nll_after_central"]
        assert fall >= 0.1, fall
        assert 0 < s["nll_ci95"][0] < fall < s["nll_ci95"][1], s["nll_ci95"]
        assert fall >= 0.8 * central, (fall, central)
        # The baselines trained on the same windows: central training as well as the split run did, federated averaging nearly so.
        assert s["nll_before"] - s["nll_after_fedlora"] >= 0.6 * central, s["nll_after_fedlora"]
        for name in "split", "central", "fedlora":
            c = s["comparison"][name]
            assert 55 <= len(c["curve"]["loss"]) <= 60 and c["nll_after"] > 0, (name, len(c["curve"]["loss"]))
            for axis in "seconds", "bytes", "joules":
                line = c["curve"][axis]
                assert c[axis] == line[-1] > 0 and all(a <= b for a, b in zip(line, line[1:])), (name, axis)
        # Federated LoRA: whole adapters up and down, of 8 phones (fewer where one missed a gang at the end) in 15 rounds. Central: ids of 4 bytes.
        adapters = s["comparison"]["fedlora"]["bytes"] / (2 * ADAPTER_BYTES)
        assert adapters == int(adapters) and 7 * 15 <= adapters <= 8 * 15, adapters
        assert 7 * 60 <= s["comparison"]["central"]["bytes"] / (4 * 128) <= 8 * 60, s["comparison"]["central"]["bytes"]
        # Traffic: 60 steps of one message up and its gradient down, in bf16, and no more than a few per cent besides.
        up = sum(p["bytes_up"] for p in s["phones"])
        assert s["bytes_up"] == up and s["packets_rx"] > 0
        for name in ("experiment.yaml", "manifest.json", "metrics.jsonl", "summary.json", "report.md", "edge.jsonl", "sim.jsonl", "latency.hlog",
                     "heldout.ids", "central.ids", "central.phones", "comparison.svg", "adapters/fedlora/adapter_model.safetensors", "adapters/global/adapter_config.json", "adapters/global/adapter_model.safetensors"):
            assert os.path.getsize(os.path.join(run_dir, name)) > 0, name
        assert "held-out loss" in text and run_dir in text


def test_fewer_devices_and_less_time():
    with tempfile.TemporaryDirectory(prefix="sluice-demo-") as work:
        s, _ = run_demo(work, "--dir", os.path.join(work, "run"), "--devices", "3", "--seconds", "3")
        assert s["devices"] == 3 and 1 <= s["steps"] < 60


run_tests(globals())
