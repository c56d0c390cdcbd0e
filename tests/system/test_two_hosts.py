#!/usr/bin/python3
"""A run on two hosts as its users do it: scripts/run --role edge in one network namespace, --role fleet in the other, a file there,
a file back, and the report."""
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time

import yaml

from harness import BUILD, ROOT, experiment, phone_class, run_tests
from netns import ADDRESS, Veth

RUN = os.path.join(ROOT, "scripts", "run")
TIMEOUT_S = 240


def spawn(before, *arguments, log):
    return subprocess.Popen([*before, sys.executable, RUN, "--build", BUILD, *arguments], stdout=log, stderr=subprocess.STDOUT,
                            stdin=subprocess.DEVNULL)


def refused(expected, *arguments):
    done = subprocess.run([sys.executable, RUN, "--build", BUILD, *arguments], capture_output=True, text=True, timeout=60)
    lines = done.stderr.strip().splitlines()
    assert done.returncode in (1, 2) and expected in lines[-1], (expected, done.returncode, done.stderr)


def wait_for_file(path, process, log):
    end = time.monotonic() + 60
    while not os.path.exists(path):
        assert process.poll() is None and time.monotonic() < end, open(log.name, encoding="utf-8").read()
        time.sleep(0.05)


def test_two_hosts__one_file_there_one_back():
    with Veth() as veth, tempfile.TemporaryDirectory(prefix="sluice-test-") as d:
        what = experiment(fleet=[phone_class("phone", 2)], run={"steps": 6, "yardstick": True},
                          edge={"control": f"{ADDRESS['a']}:7443", "slots": 8,
                                "data": {"backend": "uring_udp", "codec": "f32", "address": f"{ADDRESS['a']}:4433"}})
        file = os.path.join(d, "experiment.yaml")
        with open(file, "w", encoding="utf-8") as f:
            yaml.safe_dump(what, f)
        at_edge, at_fleet = os.path.join(d, "edge"), os.path.join(d, "fleet")
        bundle, results = os.path.join(at_edge, "fleet.tar"), os.path.join(at_fleet, "fleet-results.tar")
        with open(os.path.join(d, "edge.log"), "w", encoding="utf-8") as edge_log, \
                open(os.path.join(d, "fleet.log"), "w", encoding="utf-8") as fleet_log:
            edge = spawn(veth.inside("a"), file, "--role", "edge", "--dir", at_edge, log=edge_log)
            try:
                wait_for_file(bundle, edge, edge_log)
                fleet = spawn(veth.inside("b"), "--role", "fleet", "--edge", f"{ADDRESS['a']}:7443", "--bundle", bundle,
                              "--dir", at_fleet, log=fleet_log)
                try:
                    codes = [edge.wait(TIMEOUT_S), fleet.wait(TIMEOUT_S)]
                finally:
                    fleet.kill()
            finally:
                edge.kill()
        logs = [open(log.name, encoding="utf-8").read() for log in (edge_log, fleet_log)]
        assert codes == [0, 0], logs
        assert os.stat(bundle).st_mode & 0o777 == 0o600, "the bundle holds private keys"
        assert "copy " + bundle in logs[0] and "copy " + results in logs[1], logs

        done = subprocess.run([sys.executable, RUN, "--build", BUILD, "--report", at_edge, "--fleet-results", results],
                              capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        with open(os.path.join(at_edge, "summary.json"), encoding="utf-8") as f:
            summary = json.load(f)
        assert summary["steps"] == 6 and summary["devices"] == 2 and summary["backend"] == "uring_udp", summary
        assert summary["nll_after"] < summary["nll_before"] and summary["nll_after_central"] < summary["nll_before"], summary
        clock = summary["edge_clock"]  # one kernel, one clock: the truth is 0
        assert clock["samples"] > 0 and abs(clock["ahead_ms"]) <= clock["uncertainty_ms"] + 1e-6, clock


def test_two_hosts__bad_input():
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as d:
        file, bad = os.path.join(d, "memif.yaml"), os.path.join(d, "bad.tar")
        with open(file, "w", encoding="utf-8") as f:
            yaml.safe_dump(experiment(), f)
        refused("memif joins two programs of one host", file, "--role", "edge", "--dir", os.path.join(d, "e"))
        assert not os.path.exists(os.path.join(d, "e"))
        refused("--role fleet and --bundle FILE belong together", file, "--role", "fleet")
        refused("--edge is for --role fleet", file, "--edge", "192.0.2.1:7443")
        with open(bad, "wb") as f:
            f.write(b"no tar" * 300)
        fleet = ["--role", "fleet", "--dir", os.path.join(d, "f"), "--bundle", bad]
        refused("not a bundle", *fleet)
        for name in ("../escape.yaml", "/etc/passwd", "pki/edge.key"):
            with tarfile.open(bad, "w") as tar:
                tar.addfile(tarfile.TarInfo(name))
            refused("this is not a bundle", *fleet)
        with tarfile.open(bad, "w") as tar:
            link = tarfile.TarInfo("experiment.yaml")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        refused("this is not a bundle", *fleet)
        with tarfile.open(bad, "w") as tar:
            tar.addfile(tarfile.TarInfo("experiment.yaml"))
        refused("lacks the experiment or the CA's certificate", *fleet)
        assert not os.path.exists(os.path.join(d, "f")) and not os.path.exists(os.path.join(d, "escape.yaml"))
        refused("is not the run directory of a run's edge", "--report", d, "--fleet-results", bad)


if __name__ == "__main__":
    run_tests(globals())
