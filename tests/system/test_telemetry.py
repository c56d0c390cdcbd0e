#!/usr/bin/python3
"""A running edge answers dpdk-telemetry.py's protocol about its data path."""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import time

from harness import Run, experiment, phone_class, run_tests


class Telemetry:
    """A client of DPDK's telemetry socket (its version 2 protocol: a packet a command, a packet of JSON an answer)."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.info = json.loads(self.socket.recv(1 << 16))

    def ask(self, command):
        self.socket.send(command.encode())
        answer = json.loads(self.socket.recv(max(self.info["max_output_len"], 1 << 16)))
        return answer[command.split(",")[0]]

    def close(self):
        self.socket.close()


def find_socket(run, edge):
    """The edge's, among those of other programs on this host: the one that its process listens on."""
    with open("/proc/net/unix", encoding="utf-8") as f:
        ours = {f"socket:[{line.split()[6]}]": line.split()[7] for line in f if "dpdk_telemetry" in line}
    for fd in glob.glob(f"/proc/{edge.pid}/fd/*"):
        try:
            path = ours.get(os.readlink(fd))
        except OSError:
            continue
        if path:
            return path
    return None


def assert_numbers(values, *names):
    for name in names:
        assert isinstance(values.get(name), int), (name, values)


def test_telemetry__of_a_running_edge():
    with Run(experiment(fleet=[phone_class("phone", 3)], run={"steps": 5000})) as run:
        sim, edge = run.start_sim(), run.start_edge()
        run.wait_for(lambda: len(run.events("edge", "step")) > 3, "training", processes=(sim, edge))
        client = Telemetry(find_socket(run, edge))

        sessions = client.ask("/sluice/sessions")["0"]
        assert sessions["open"] == 3 and len(sessions["handles"]) == 3, sessions
        assert client.ask("/sluice/sessions,2")["0"]["handles"] == sessions["handles"][2:]
        devices = set()
        for handle in sessions["handles"]:
            s = client.ask(f"/sluice/session,{handle}")
            assert_numbers(s, "packets_rx", "bytes_tx", "retransmits", "smoothed_rtt_ns", "in_flight_packets", "key_updates_rx")
            assert s["packets_rx"] > 0 and s["bytes_rx"] > s["packets_rx"]
            devices.add(s["device"])
        assert devices == {0, 1, 2}, devices
        for bad in ("/sluice/session", "/sluice/session,99999", "/sluice/session,x", "/sluice/session,7,0", "/sluice/session,-1"):
            assert client.ask(bad) is None, bad

        slots = client.ask("/sluice/slots")["0"]
        assert slots["free"] + slots["in_use"] == slots["slots"] == run.experiment["edge"]["slots"], slots
        first = client.ask("/sluice/lcores")["0"]
        assert_numbers(first, "polls_busy", "cycles_busy", "cycles_total", "busy_percent", "sleeps")
        assert 0 < first["cycles_busy"] <= first["cycles_total"]
        trainer = client.ask("/sluice/trainer")
        assert_numbers(trainer, "busy_ms", "stall_ms", "idle_ms", "stall_permille")
        assert trainer["stall_permille"] <= 1000
        drops = client.ask("/sluice/drops")
        assert "bad_tag" in drops and "tx_full" in drops and sum(drops.values()) >= 0
        time.sleep(0.5)
        assert client.ask("/sluice/lcores")["0"]["packets_rx"] > first["packets_rx"]

        tool = shutil.which("dpdk-telemetry.py") or "/usr/bin/dpdk-telemetry.py"
        client.close()  # DPDK serves a few clients at a time
        if os.path.exists(tool) and os.path.dirname(find_socket(run, edge)) == "/var/run/dpdk/sluice-edge":
            done = subprocess.run([tool, "-f", "sluice-edge"], input="/sluice/sessions\nquit\n", capture_output=True, text=True, timeout=20)
            assert '"open": 3' in done.stdout, done.stdout + done.stderr
        for program in (sim, edge):
            program.send_signal(signal.SIGINT)
        assert run.finish(sim, edge) == [130, 130]


if __name__ == "__main__":
    run_tests(globals())
