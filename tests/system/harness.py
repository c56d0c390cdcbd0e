"""Runs sluice-edge and sluice-sim as users do, for the system tests. A test is a function; run_tests() is its program's last line."""
import contextlib
import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("SLUICE_BUILD", os.path.join(ROOT, "build"))
EDGE = os.path.join(BUILD, "trainer", "edge", "sluice-edge")
SIM = os.path.join(BUILD, "device-sim", "fleet", "sluice-sim")
TRAIN = os.path.join(BUILD, "trainer", "tools", "sluice-train")
PKI = os.path.join(ROOT, "scripts", "pki")
MODEL = os.environ.get("SLUICE_TEST_MODEL", os.path.join(ROOT, "trainer", "models", "base"))
TIMEOUT_S = 240  # of one run: far above what any takes, so that a hang fails instead of hanging the suite

# Phones that cost nothing: the tests below are about results, not about times.
FAST_CLASS = {"class": "fast", "count": 1, "compute_gflops": 1000, "battery_mah": 4000, "compute_w": 4, "radio_tx_w": 1,
              "radio_rx_w": 1, "link": {"up_mbps": 1000, "down_mbps": 1000, "rtt_ms": 1}}


class Skip(Exception):
    """What is missing on this machine."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def experiment(**changes):
    """A small deterministic experiment over f32; keyword arguments replace whole sections."""
    base = {
        "name": "test", "seed": 3, "model": {"path": MODEL},
        "data": {"path": "/usr/share/games/fortunes", "seq": 32, "held_out": 0.1, "held_out_windows": 16},
        "training": {"lora": {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "down_proj"]},
                     "optimizer": {"kind": "adamw", "lr": 2.0e-3}, "aggregate_every": 5, "deterministic": True},
        "edge": {"control": f"127.0.0.1:{free_port()}", "data": {"codec": "f32", "memory_mib": 128, "peer_timeout_s": 30}, "slots": 16},
        "fleet": [copy.deepcopy(FAST_CLASS)], "plan": {"cut": 4}, "run": {"steps": 20},
    }
    for key, value in changes.items():
        base[key] = value
    return base


def phone_class(name, count=1, **changes):
    return {**copy.deepcopy(FAST_CLASS), "class": name, "count": count, **changes}


class Run:
    """One run directory with its experiment and certificates, and the programs started in it."""

    def __init__(self, what, pki=True):
        for path in (EDGE, SIM, TRAIN):
            if not os.path.exists(path):
                raise AssertionError(f"{path} is not built")
        if not os.path.isdir("/usr/share/games/fortunes"):
            raise Skip("Debian's package fortunes")
        self.dir = tempfile.mkdtemp(prefix="sluice-test-")
        self.file = os.path.join(self.dir, "experiment.yaml")
        self.experiment = what
        self.write_experiment(what)
        self.cwd, self.dir_argument = None, self.dir
        self.processes = []
        self.before = {}  # program: what its command line is preceded by (netns.py)
        if pki:
            self.make_pki()

    def write_experiment(self, what):
        with open(self.file, "w", encoding="utf-8") as f:
            yaml.safe_dump(what, f, sort_keys=False)

    def make_pki(self):
        names = [f"device-{i:05d}" for i in range(sum(c["count"] for c in self.experiment["fleet"]))]
        pki = os.path.join(self.dir, "pki")
        for command in (["ca", pki], ["edge", pki, "edge"], ["issue", pki, *names]):
            subprocess.run([PKI, *command], check=True, capture_output=True)

    def start(self, program, *extra):
        log = open(os.path.join(self.dir, f"{os.path.basename(program)}-{len(self.processes)}.log"), "w+", encoding="utf-8")
        env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "XDG_RUNTIME_DIR")}
        process = subprocess.Popen([*self.before.get(program, []), program, "--experiment", self.file, "--run", self.dir_argument, *extra], stdout=log,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, cwd=self.cwd)
        process.log = log
        self.processes.append(process)
        return process

    def start_edge(self, *extra):
        return self.start(EDGE, *extra)

    def start_sim(self, *extra):
        return self.start(SIM, *extra)

    def output(self, process):
        process.log.flush()
        process.log.seek(0)
        return process.log.read()

    def kill_and_restart(self, edge):
        """The edge dies without a word, and comes back to the same run directory."""
        edge.send_signal(signal.SIGKILL)
        edge.wait()
        return self.start_edge()

    def adapter(self):
        """The bytes of the adapter that the run ended with."""
        with open(os.path.join(self.dir, "adapters", "global", "adapter_model.safetensors"), "rb") as f:
            return f.read()

    def finish(self, *processes, timeout=TIMEOUT_S):
        """Waits for all; returns their exit codes."""
        end = time.monotonic() + timeout
        for process in processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{process.args[0]} did not end; its output:\n{self.output(process)[-3000:]}") from None
        return [p.returncode for p in processes]

    def run_both(self, *sim_extra):
        """A whole run that must succeed."""
        sim, edge = self.start_sim(*sim_extra), self.start_edge()
        codes = self.finish(edge, sim)
        assert codes == [0, 0], f"exit codes {codes}\nedge: {self.output(edge)[-3000:]}\nsim: {self.output(sim)[-3000:]}"
        return edge, sim

    def events(self, name, event=None):
        path = os.path.join(self.dir, name + ".jsonl")
        found = []
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                for line in f:
                    with contextlib.suppress(ValueError):
                        found.append(json.loads(line))
        return [e for e in found if event is None or e["event"] == event]

    def wait_for(self, condition, what, timeout=60, processes=()):
        """Polls until condition() is true."""
        end = time.monotonic() + timeout
        while not condition():
            for process in processes:
                if process.poll() is not None:
                    raise AssertionError(f"{process.args[0]} ended with {process.returncode} before: {what}\n{self.output(process)[-3000:]}")
            if time.monotonic() > end:
                outputs = "\n".join(self.output(p)[-1500:] for p in self.processes)
                raise AssertionError(f"did not come: {what}\n{outputs}")
            time.sleep(0.02)

    def losses(self):
        return [e["loss"] for e in sorted(self.events("edge", "step"), key=lambda e: e["step"])]

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.log.close()
        if os.environ.get("SLUICE_KEEP"):
            print("kept", self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def train_json(*arguments):
    """sluice-train with --json: its result."""
    done = subprocess.run([TRAIN, *arguments, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def central(run, *extra, lr=None):
    """The same windows trained in one process (rules L6)."""
    what = run.experiment
    steps = len(run.losses())
    with open(os.path.join(run.dir, "central.ids"), encoding="utf-8") as f:
        windows = sum(1 for _ in f)
    assert steps and windows % steps == 0, (steps, windows)
    lora, optimizer = what["training"]["lora"], what["training"]["optimizer"]
    seqs = [c.get("seq", what["data"]["seq"]) for c in what["fleet"]]
    return train_json("lora", "--model", what["model"]["path"], "--ids", os.path.join(run.dir, "central.ids"), "--steps", str(steps),
                      "--batch", str(windows // steps), "--seq", str(max(seqs)), "--tails", "--lr", str(lr or optimizer["lr"]),
                      "--optimizer", optimizer["kind"], "--rank", str(lora["rank"]), "--alpha", str(lora["alpha"]),
                      "--targets", ",".join(lora["targets"]), "--seed", str(what["seed"]), *extra)["losses"]


def one_line_error(text):
    """The program's error: its last line, which must be the only one that starts with its name and a colon."""
    lines = [l for l in text.splitlines() if l.strip()]
    assert lines, "no message at all"
    return lines[-1]


def run_tests(module):
    """Runs every function test_* of the module; exit code for the test runner: 77 where all were skipped."""
    tests = [(n, f) for n, f in sorted(module.items()) if n.startswith("test_") and callable(f)]
    wanted = sys.argv[1:]
    failed = ran = 0
    for name, function in tests:
        if wanted and name not in wanted:
            continue
        began = time.monotonic()
        try:
            function()
            ran += 1
            print(f"ok {name} ({time.monotonic() - began:.1f} s)", flush=True)
        except Skip as reason:
            print(f"SKIP: {name}: needs {reason}", flush=True)
        except Exception:  # the test's failure, whatever it is
            failed += 1
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
    signal.alarm(0)
    sys.exit(1 if failed else 0 if ran else 77)
