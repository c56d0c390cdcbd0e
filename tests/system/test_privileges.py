#!/usr/bin/python3
"""Started as root, both programs become an ordinary user, and the run goes on. Needs root."""
import os
import pwd
import shutil
import signal
import subprocess

import harness

CAP_NET_ADMIN = 12  # linux/capability.h
NOBODY = pwd.getpwnam("nobody")


def status(process):
    """Of every thread of a process: user, groups, capabilities, whether programs may give privileges."""
    found = []
    for task in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{task}/status", encoding="utf-8") as f:
            thread = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        if not thread["Name"].startswith("iou-"):  # the kernel's own workers, with the credentials of who asked
            found.append(thread)
    return found


def assert_dropped(threads, uid, capabilities=0):
    """capabilities: what the first thread may have; the others have none."""
    assert len(threads) > 3, len(threads)
    for thread in threads:
        assert thread["Uid"].split() == [str(uid)] * 4, (thread["Name"], thread["Uid"])
        assert thread["Groups"].strip() == "", (thread["Name"], thread["Groups"])
    masks = [int(t["CapEff"], 16) | int(t["CapPrm"], 16) for t in threads]
    assert sorted(masks)[-1] == capabilities and sorted(masks)[:-1] == [0] * (len(masks) - 1), masks


def as_root():
    if os.geteuid() != 0:
        raise harness.Skip("root")


class User:
    """What sudo leaves in the environment."""

    def __init__(self, uid, gid):
        self.values = {"SUDO_UID": str(uid), "SUDO_GID": str(gid)} if uid is not None else {}

    def __enter__(self):
        self.before = {k: os.environ.pop(k, None) for k in ("SUDO_UID", "SUDO_GID")}
        os.environ.update(self.values)

    def __exit__(self, *_):
        for key, value in self.before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


def test_sudo__run_goes_on_as_the_caller():
    as_root()
    what = harness.experiment(run={"steps": 100000})
    with User(NOBODY.pw_uid, NOBODY.pw_gid), harness.Run(what) as run:
        with open(os.path.join(run.dir, "left-by-root"), "w", encoding="utf-8"):
            pass
        if os.stat("/etc/hostname").st_dev == os.stat(run.dir).st_dev:
            os.link("/etc/hostname", os.path.join(run.dir, "linked"))
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "step")) >= 10, "ten steps", processes=(sim, edge))
        for process in (sim, edge):
            assert_dropped(status(process), NOBODY.pw_uid)
            assert f"privileges dropped: user {NOBODY.pw_uid}" in run.output(process)
        for process in (edge, sim):
            process.send_signal(signal.SIGINT)
        assert run.finish(edge, sim) == [130, 130]
        for name in (".", "checkpoint.bin", "left-by-root", "adapters"):
            assert os.stat(os.path.join(run.dir, name)).st_uid == NOBODY.pw_uid, name
        assert os.stat("/etc/hostname").st_uid == 0
        # Root again, on what is now that user's: it becomes the owner, without being told.
        with User(None, None):
            sim, edge = run.start_sim(), run.start_edge()
            before = len(run.events("edge", "step"))
            run.wait_for(lambda: len(run.events("edge", "step")) > before + 5, "five more", processes=(sim, edge))
            assert_dropped(status(edge), NOBODY.pw_uid)
            for process in (edge, sim):
                process.send_signal(signal.SIGINT)
            assert run.finish(edge, sim) == [130, 130]


def test_port__opened_by_root_kept_by_the_user():
    """A tap device can only be made by root: the edge makes it, and then is nobody."""
    as_root()
    if not os.path.exists("/dev/net/tun"):
        raise harness.Skip("/dev/net/tun")
    what = harness.experiment()
    what["edge"]["data"]["backend"] = "tap:sluicetap0"
    with User(None, None), harness.Run(what) as run:
        edge = run.start_edge("--user", "nobody")
        run.wait_for(lambda: "listening on" in run.output(edge), "the edge listens", processes=(edge,))
        assert_dropped(status(edge), NOBODY.pw_uid)
        assert os.path.exists("/sys/class/net/sluicetap0")
        edge.send_signal(signal.SIGINT)
        assert run.finish(edge) == [130], run.output(edge)
        assert not os.path.exists("/sys/class/net/sluicetap0")


def test_af_xdp__takes_its_program_off_without_root():
    """CAP_NET_ADMIN stays with the control thread, and is enough to take the XDP program off at the end."""
    as_root()
    if not shutil.which("ip"):
        raise harness.Skip("the command ip (package iproute2)")
    pair = ["ip", "link", "add", "slprivA", "numrxqueues", "1", "type", "veth", "peer", "name", "slprivB"]
    if subprocess.run(pair, capture_output=True, check=False).returncode:
        raise harness.Skip("veth interfaces")
    try:
        for words in (["addr", "add", "10.79.77.1/24", "dev", "slprivA"], ["link", "set", "slprivA", "up"], ["link", "set", "slprivB", "up"]):
            subprocess.run(["ip", *words], check=True)
        what = harness.experiment()
        what["edge"]["data"].update({"backend": "af_xdp:slprivA", "address": "10.79.77.1:4433"})
        with User(None, None), harness.Run(what) as run:
            edge = run.start_edge("--user", "nobody")
            run.wait_for(lambda: "listening on" in run.output(edge) or edge.poll() is not None, "the edge listens")
            if edge.poll() is not None:
                raise harness.Skip("AF_XDP: " + harness.one_line_error(run.output(edge)))
            assert_dropped(status(edge), NOBODY.pw_uid, 1 << CAP_NET_ADMIN)
            assert "xdp" in link("slprivA"), link("slprivA")
            edge.send_signal(signal.SIGINT)
            assert run.finish(edge) == [130], run.output(edge)
            assert "xdp" not in link("slprivA"), link("slprivA")
    finally:
        subprocess.run(["ip", "link", "del", "slprivA"], check=False)


def link(name):
    return subprocess.run(["ip", "-d", "link", "show", name], capture_output=True, text=True, check=True).stdout


def test_nobody_to_become__stays_root_and_says_so():
    as_root()
    with User(None, None), harness.Run(harness.experiment()) as run:
        edge = run.start_edge()
        run.wait_for(lambda: "listening on" in run.output(edge), "the edge listens", processes=(edge,))
        assert "running as root: name a user to become with --user" in run.output(edge)
        assert all(t["NoNewPrivs"] == "1" for t in status(edge) if t["Name"].startswith("sl-")), status(edge)
        edge.kill()


def test_user__unknown():
    as_root()
    with User(None, None), harness.Run(harness.experiment()) as run:
        edge = run.start_edge("--user", "no-such-user")
        assert run.finish(edge) == [1] and "no user no-such-user" in harness.one_line_error(run.output(edge))


harness.run_tests(globals())
