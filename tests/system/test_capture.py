#!/usr/bin/python3
"""A run's capture, by tshark with our dissector: every packet is dissected and none malformed, sealed and in the clear."""
import os
import shutil
import subprocess

from harness import ROOT, Run, Skip, experiment, free_port, phone_class, run_tests

DISSECTOR = os.path.join(ROOT, "scripts", "wireshark", "sluice.lua")
DECRYPT = os.path.join(ROOT, "scripts", "decrypt-capture")
ACK, REQUEST, GRANT, RESULT = 2, 3, 4, 5


def tshark(file, *arguments):
    done = subprocess.run(["tshark", "-X", f"lua_script:{DISSECTOR}", "-r", file, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def count(file, display_filter):
    return len(tshark(file, "-Y", display_filter))


def captured_run(codec="f32"):
    """A small run with its capture and its key log."""
    if not shutil.which("tshark"):
        raise Skip("Debian's package tshark")
    what = experiment(fleet=[phone_class("phone", 2)], run={"steps": 4})
    what["edge"]["data"]["codec"] = codec
    run = Run(what)
    capture, keys = os.path.join(run.dir, "run.pcapng"), os.path.join(run.dir, "keys.log")
    sim, edge = run.start_sim(), run.start_edge("--capture", capture, "--key-log", keys)
    assert run.finish(sim, edge) == [0, 0], run.output(edge)
    assert "WARNING: --key-log" in run.output(edge), "nobody was warned of the key log"
    assert os.stat(keys).st_mode & 0o777 == 0o600 and os.stat(capture).st_mode & 0o777 == 0o600
    return run


def assert_no_gap(file, sessions):
    """Nothing was missed: packet numbers rise by one (there is no loss in this run)."""
    numbers = {}
    for line in tshark(file, "-Y", "sluice", "-T", "fields", "-e", "sluice.session", "-e", "sluice.pn"):
        session, pn = line.split("\t")
        numbers.setdefault(session, []).append(int(pn))
    assert len(numbers) == sessions, numbers.keys()
    for session, seen in numbers.items():
        assert sorted(seen) == list(range(len(seen))), f"{session}: {len(seen)} packets, the last is {max(seen)}"


def test_capture__is_dissected_whole():
    with captured_run() as run:
        capture, keys = os.path.join(run.dir, "run.pcapng"), os.path.join(run.dir, "keys.log")
        end = run.events("edge", "end")[0]
        packets = count(capture, "udp")
        assert packets >= end["packets_rx"] + end["packets_tx"] > 0, (packets, end)  # the last ones came after that was written
        assert_no_gap(capture, sessions=4)
        assert count(capture, "sluice") == packets, "some packets are not dissected"
        assert count(capture, "_ws.malformed || sluice.malformed") == 0
        assert count(capture, "sluice.type == 1") > packets / 2

        clear = os.path.join(run.dir, "clear.pcapng")
        done = subprocess.run([DECRYPT, capture, "--key-log", keys, "--out", clear], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"{packets} datagrams in the clear, 0 other packets copied, 0 that no key opens" in done.stdout, done.stdout
        assert count(clear, "sluice.clear") == packets
        assert count(clear, "_ws.malformed || sluice.malformed || ip.checksum.status == 0") == 0
        seen = {int(x) for line in tshark(clear, "-Y", "sluice.frame", "-T", "fields", "-E", "aggregator=,", "-e", "sluice.frame")
                for x in line.split(",")}
        assert {ACK, REQUEST, GRANT, RESULT} <= seen <= set(range(9)), seen
        losses = [float(x) for line in tshark(clear, "-Y", "sluice.result.status == 0", "-T", "fields", "-E", "aggregator=,", "-e",
                                              "sluice.result.nll") for x in line.split(",")]
        assert losses and all(0 < x < 1e4 for x in losses), losses


def test_capture__compressed_packets():
    with captured_run("int8+lz4") as run:
        capture = os.path.join(run.dir, "run.pcapng")
        packets = count(capture, "udp")
        assert count(capture, "sluice") == packets, "some packets are not dissected"
        assert count(capture, "_ws.malformed || sluice.malformed") == 0
        compressed = count(capture, "sluice.flags.compressed == 1")
        assert 0 < compressed == count(capture, "sluice.coded"), compressed


def test_decrypt_capture__bad_input():
    with captured_run() as run:
        capture, keys = os.path.join(run.dir, "run.pcapng"), os.path.join(run.dir, "keys.log")
        with open(capture, "rb") as f:
            whole = f.read()

        def refused(data, key_file, expected, out="out.pcapng"):
            path = os.path.join(run.dir, "bad")
            with open(path, "wb") as f:
                f.write(data)
            done = subprocess.run([DECRYPT, path, "--key-log", key_file, "--out", os.path.join(run.dir, out)], capture_output=True, text=True)
            if os.path.exists(os.path.join(run.dir, "out.pcapng")):
                os.remove(os.path.join(run.dir, "out.pcapng"))
            assert done.returncode == 1 and expected in done.stderr and done.stderr.count("\n") == 1, (expected, done.stderr)

        refused(b"hello, world", keys, "neither pcap nor pcapng")
        refused(whole[:-7], keys, "ends in the middle")
        refused(whole[:4] + b"\x02" + whole[5:], keys, "damaged")
        refused(whole, capture, "not a line of sluice-edge's key log")
        refused(whole, os.devnull, "holds no key")
        refused(whole, keys, "there already", out="run.pcapng")
        other = os.path.join(run.dir, "other.log")
        with open(keys, encoding="ascii") as f, open(other, "w", encoding="ascii") as g:
            for line in f:
                words = line.split()
                g.write(" ".join(words[:3] + ["00" * 32]) + "\n")
        done = subprocess.run([DECRYPT, capture, "--key-log", other, "--out", os.path.join(run.dir, "x.pcapng")], capture_output=True, text=True)
        assert done.returncode == 1 and "0 datagrams in the clear" in done.stdout, done.stdout


if __name__ == "__main__":
    run_tests(globals())
