#!/usr/bin/python3
"""Traffic for other systems: a capture that tshark reads, the same every time; flows to a socket, measured there; bounds."""
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile

from harness import ROOT, SIM, Skip, run_tests

DEMO = os.path.join(ROOT, "device-sim", "scenarios", "demo.yaml")
HEADER = struct.Struct(">4sBBHQIIIIQQQ")  # device-sim/sink/header.h


def sim(*extra, status=0):
    done = subprocess.run([SIM, "--experiment", DEMO, *extra], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, f"{extra}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def totals(done):
    import json
    return json.loads(done.stdout)


def test_capture_is_the_same_every_time():
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as work:
        files = [os.path.join(work, name) for name in ("a.pcap", "b.pcap")]
        for path in files:
            sim("--pcap", path, "--seconds", "20")
        with open(files[0], "rb") as a, open(files[1], "rb") as b:
            first = a.read()
            assert first == b.read() and len(first) > 1 << 20


def test_capture_in_tshark():
    if not shutil.which("tshark"):
        raise Skip("tshark")
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as work:
        path = os.path.join(work, "fleet.pcap")
        told = totals(sim("--pcap", path, "--seconds", "20", "--down", "--json"))
        out = subprocess.run(["tshark", "-r", path, "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-e", "ip.src",
                              "-e", "ip.dst", "-e", "udp.checksum.status", "-e", "ip.checksum.status", "-e", "ip.len", "-e", "data.data"],
                             capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
        assert len(out) == told["sent"] == told["given"], (len(out), told)
        up, size = {}, 0
        for line in out:
            source, destination, udp_ok, ip_ok, length, data = line.split("\t")
            assert (udp_ok, ip_ok) == ("1", "1"), line
            size += int(length)
            head = HEADER.unpack(bytes.fromhex(data)[:HEADER.size])
            assert head[:2] == (b"SLSK", 1) and head[3] == HEADER.size, head
            if destination == "10.77.0.1":
                up.setdefault(source, []).append(head)
            else:
                assert source == "10.77.0.1" and head[2] & 2, line
        assert size == told["sent_bytes"]
        assert len(up) == 8, up.keys()  # each phone a flow of its own
        lost = 0
        for heads in up.values():
            numbers = [h[9] for h in heads]
            lost += max(numbers) + 1 - len(set(numbers))
            assert len(set(numbers)) == len(numbers) and all(h[11] > h[10] for h in heads)
        # What is missing among the numbers was lost in the emulated link or is still in it.
        under_way = told["up"]["offered"] - told["up"]["arrived"] - told["up"]["dropped"]
        assert 0 <= lost <= told["up"]["dropped"] + under_way and lost > 0, (lost, told)


def test_flows_to_a_socket():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.5)
        process = subprocess.Popen([SIM, "--experiment", DEMO, "--sink", f"127.0.0.1:{receiver.getsockname()[1]}", "--seconds", "4", "--json"], cwd=ROOT,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        got, ports = [], {}
        while True:
            try:
                data, source = receiver.recvfrom(9000)
            except socket.timeout:
                if process.poll() is not None:
                    break
                continue
            head = HEADER.unpack(data[:HEADER.size])
            assert head[0] == b"SLSK" and head[1] == 1 and head[2] & 2 == 0, head
            got.append(head)
            assert ports.setdefault(head[5], source[1]) == source[1]  # a phone, a source port
        out, err = process.communicate()
        assert process.returncode == 0, err
    told = totals(type("Done", (), {"stdout": out}))
    assert told["given"] == told["sent"] + told["rate_limited"] + told["refused"] + told["unreachable"] + told["too_long"] + told["no_room"], told
    assert len(ports) == 8 and len(set(ports.values())) == 8, ports
    assert told["refused"] == 0 and len(got) <= told["sent"] and len(got) > 0.5 * told["sent"], (len(got), told)
    assert len({head[4] for head in got}) == 1  # the run


def test_rate_limit_is_kept_and_said():
    with tempfile.TemporaryDirectory(prefix="sluice-test-") as work:
        told = totals(sim("--pcap", os.path.join(work, "slow.pcap"), "--seconds", "20", "--rate-limit", "1", "--json"))
        assert told["rate_limited"] > 0 and told["given"] == told["sent"] + told["rate_limited"], told
        assert told["sent_bytes"] * 8 <= 1e6 * 20 + 9000 * 8, told


def test_bounds_are_refused_by_name():
    for extra, status, words in ((("--sink", "8.8.8.8:9"), 1, "--force"), (("--sink", "224.0.0.1:9", "--force"), 1, "no single host"),
                                 (("--sink", "127.0.0.1"), 1, "not an address and port"),
                                 (("--sink", "127.0.0.1:9", "--seconds", "3601"), 2, "at most 3600"),
                                 (("--sink", "127.0.0.1:9", "--rate-limit", "10001"), 2, "at most 10000"),
                                 (("--sink", "127.0.0.1:9", "--rate-limit", "1x"), 2, "--rate-limit 1x"),
                                 (("--sink", "127.0.0.1:9", "--pcap", "x"), 2, "exclude"), (("--sink", "127.0.0.1:9", "--run", "x"), 2, "exclude"),
                                 (("--pcap", "/nonexistent/x.pcap"), 1, "/nonexistent/x.pcap"), (("--sink", "127.0.0.1:9", "--down"), 2, "--down")):
        done = sim(*extra, status=status)
        assert words in done.stderr, (extra, done.stderr)
        assert len(re.findall("sluice-sim: ", done.stderr)) <= 2, done.stderr


run_tests(globals())
