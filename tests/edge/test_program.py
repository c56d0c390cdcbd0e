#!/usr/bin/python3
"""sluice-edge as a program: what it says, and how it ends, when something is wrong. Usage: test_program.py SLUICE_EDGE"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import tiny_model  # noqa: E402

EDGE = os.path.abspath(sys.argv[1])
WORK = tempfile.mkdtemp(prefix="sl-edge-")
TIMEOUT_S = 120

EXPERIMENT = """
name: program
seed: 3
model: {{path: {model}}}
data: {{path: {work}, seq: 16}}
training: {{lora: {{rank: 4, alpha: 8, targets: [q_proj, v_proj]}}, aggregate_every: 1{training}}}
edge: {{control: "127.0.0.1:{port}", data: {{backend: memif, codec: f32, peer_timeout_s: 1, memory_mib: 64}}, slots: 4{edge}}}
fleet:
  - {{class: budget, count: 2, compute_gflops: 2, memory_mib: 512, battery_mah: 3000, compute_w: 2, radio_tx_w: 1, radio_rx_w: 1,
     link: {{up_mbps: 10, down_mbps: 20, rtt_ms: 10, loss: 0, queue_kib: 256}}}}
plan: {{cut: {cut}}}
run: {{steps: 2}}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Case:
    """A run directory with certificates, a model and an experiment."""

    def __init__(self, name, **values):
        self.dir = os.path.join(WORK, name)
        self.run = os.path.join(self.dir, "run")
        os.makedirs(self.dir)
        self.values = {"model": os.path.join(WORK, "model"), "work": WORK, "port": free_port(), "training": "", "edge": "",
                       "cut": 1} | values
        self.experiment = os.path.join(self.dir, "experiment.yaml")
        with open(self.experiment, "w", encoding="utf-8") as f:
            f.write(EXPERIMENT.format(**self.values))

    def command(self, *more):
        return [EDGE, "--experiment", self.experiment, "--run", self.run, "--pki", os.path.join(WORK, "pki"), *more]

    def ends(self, status, *texts, command=None):
        done = subprocess.run(command or self.command(), capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode != status:
            raise AssertionError(f"status {done.returncode}, not {status}; it said:\n{done.stderr}")
        last = (done.stderr.strip().splitlines() or [""])[-1]
        for text in texts:
            if text not in last:
                raise AssertionError(f"does not say '{text}' in its last line:\n{done.stderr}")
        return done


def help__has_examples():
    done = Case("help").ends(0, command=[EDGE, "--help"])
    assert "examples:" in done.stdout and "--experiment" in done.stdout


def options__missing_or_unknown():
    case = Case("options")
    case.ends(2, "--help", command=[EDGE])
    case.ends(2, command=[EDGE, "--experiment", case.experiment, "--run", case.run, "--nonsense"])
    case.ends(2, command=case.command("more"))


def experiment__missing_or_wrong():
    case = Case("experiment")
    case.ends(1, "nowhere.yaml", command=[EDGE, "--experiment", "nowhere.yaml", "--run", case.run])
    Case("key", training=", colour: red").ends(1, "colour")
    assert not os.path.exists(os.path.join(WORK, "key", "run"))


def model__unreadable():
    Case("nomodel", model=os.path.join(WORK, "nothing")).ends(1, "nothing")
    broken = os.path.join(WORK, "broken")
    shutil.copytree(os.path.join(WORK, "model"), broken)
    os.truncate(os.path.join(broken, "model.safetensors"), 5000)
    Case("truncated", model=broken).ends(1, "model.safetensors")


def cut__outside_of_the_model():
    Case("cut", cut=3).ends(1, "plan.cut", "1 to 2")


def slots__that_do_not_hold_a_message():
    Case("slots", edge=", slot_kib: 1").ends(1, "edge.slot_kib")


def certificate__is_missing():
    case = Case("nocert")
    case.ends(1, "scripts/pki", command=[EDGE, "--experiment", case.experiment, "--run", case.run])


def run_dir__is_not_a_directory():
    case = Case("rundir")
    with open(case.run, "w", encoding="utf-8"):
        pass
    case.ends(1, case.run)


def run_dir__is_made_for_its_owner_alone():
    case = Case("mode")
    case.ends(1, command=[EDGE, "--experiment", case.experiment, "--run", case.run])
    assert os.stat(case.run).st_mode & 0o777 == 0o700


def port__is_taken():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        Case("port", port=s.getsockname()[1]).ends(1, str(s.getsockname()[1]))


def checkpoint__is_damaged():
    case = Case("checkpoint")
    os.mkdir(case.run, 0o700)
    path = os.path.join(case.run, "checkpoint.bin")
    for version, why in ((b"\2", "damaged"), (b"\1", "another format version")):  # 1 is what older releases wrote
        with open(path, "wb") as f:
            f.write(b"SLUICECP" + version + b"\0\0\0" + bytes(400))
        case.ends(1, "checkpoint", why)
        assert os.path.getsize(path) == 412


def io_uring__is_not_permitted():
    """As in a container: a seccomp filter answers io_uring_setup with EPERM."""
    script = os.path.join(WORK, "deny.py")
    with open(script, "w", encoding="utf-8") as f:
        f.write("""import ctypes, os, struct, sys
# BPF: load the syscall number; 425 is io_uring_setup on every architecture of this table: EPERM, all else allowed
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
program = b"".join(struct.pack("HBBI", *c) for c in code)
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
f = Filter(len(code), ctypes.addressof(buffer))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(f), 0, 0):
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
""")
    case = Case("uring")
    done = subprocess.run(["/usr/bin/python3", script, *case.command()], capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode == 77:
        print("  (no seccomp filters here: not tried)")
        return
    assert done.returncode == 1 and "io_uring" in done.stderr.strip().splitlines()[-1], done.stderr


def memif__peer_never_comes():
    case = Case("peer")
    done = case.ends(1, "gave up", "memif")
    assert "waiting for the other end" in done.stderr, done.stderr
    events = [json.loads(line)["event"] for line in open(os.path.join(case.run, "edge.jsonl"), encoding="utf-8")]
    assert events[0] == "start" and events[-1] == "end", events
    for what in ("EAL:", "GEMM kernel", "AEAD", "threads:", "splitting hides nothing"):
        assert what in done.stderr, what


def interrupt__ends_orderly():
    case = Case("interrupt", edge="")
    with open(case.experiment, encoding="utf-8") as f:
        text = f.read().replace("peer_timeout_s: 1,", "peer_timeout_s: 100,")
    with open(case.experiment, "w", encoding="utf-8") as f:
        f.write(text)
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(case.command("--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "listening" in line:
                break
        checkpoint = os.path.join(case.run, "checkpoint.bin")
        deadline = time.monotonic() + TIMEOUT_S
        while not os.path.exists(checkpoint) and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(3):  # from the terminal, and passed on by scripts/run: one request
            process.send_signal(number)
            time.sleep(0.002)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 130, (process.returncode, err)
        assert json.loads(out.strip().splitlines()[-1])["reason"] == "interrupted"
        assert os.path.getsize(checkpoint) > 1000
    starts = [json.loads(line) for line in open(os.path.join(case.run, "edge.jsonl"), encoding="utf-8") if '"start"' in line]
    assert [s["incarnation"] for s in starts] == [1, 2] and starts[0]["run"] == starts[1]["run"]


CASES = [help__has_examples, options__missing_or_unknown, experiment__missing_or_wrong, model__unreadable, cut__outside_of_the_model,
         slots__that_do_not_hold_a_message, certificate__is_missing, run_dir__is_not_a_directory,
         run_dir__is_made_for_its_owner_alone, port__is_taken, checkpoint__is_damaged, io_uring__is_not_permitted,
         memif__peer_never_comes, interrupt__ends_orderly]


def main():
    failed = 0
    tiny_model.write(os.path.join(WORK, "model"))
    pki = os.path.join(ROOT, "scripts", "pki")
    for command in (["ca"], ["edge"]):
        subprocess.run([pki, *command, os.path.join(WORK, "pki"), *(["edge"] if command == ["edge"] else [])], check=True,
                       stdout=subprocess.DEVNULL)
    for case in CASES:
        try:
            case()
            print(f"ok   {case.__name__}", flush=True)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAIL {case.__name__}: {error}", flush=True)
    shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failed else 0


sys.exit(main())
