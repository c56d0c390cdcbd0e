#!/usr/bin/python3
"""Ports that share an interface with the kernel, and one that has a kernel for its neighbour: dpdk_echo in namespace a, ordinary
sockets in namespace b (or, for tap, on the interface that the port makes)."""
import contextlib
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "system"))
from harness import BUILD, run_tests  # noqa: E402
from netns import ADDRESS, ADDRESS6, Veth  # noqa: E402

ECHO = os.environ.get("SLUICE_ECHO", os.path.join(BUILD, "tests", "io", "dpdk", "dpdk_echo"))
PORT = 7000
PATIENCE_S = 20
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1


class Echo:
    """dpdk_echo on side a, until it is told to end."""

    def __init__(self, veth, device, mtu=1500, ip=ADDRESS["a"], ip6=ADDRESS6["a"]):
        self.dir = tempfile.mkdtemp(prefix="sluice-test-")
        command = [ECHO, self.dir, device, str(mtu), str(PORT), ip, ip6]
        self.process = subprocess.Popen(veth.inside("a") + command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def line(self, patience=PATIENCE_S):
        if not select.select([self.process.stdout], [], [], patience)[0]:
            raise AssertionError("dpdk_echo says nothing")
        return self.process.stdout.readline().decode().strip()

    def expect(self, what):
        said = self.line()
        assert said == what, f"{said!r} instead of {what!r}: {self.process.stderr.read().decode() if not said else ''}"

    def up(self):
        """The first look at the link may be a moment after the start."""
        said = self.line()
        if said == "down":
            said = self.line()
        assert said == "ready", self.process.stderr.read().decode()

    def end(self):
        out, err = self.process.communicate(b"", timeout=PATIENCE_S)
        assert self.process.returncode == 0, (self.process.returncode, err)
        return json.loads(out.decode().splitlines()[-1])

    def refusal(self):
        """The one line with which it does not start."""
        out, err = self.process.communicate(b"", timeout=PATIENCE_S)
        assert self.process.returncode == 1, (self.process.returncode, out, err)
        lines = [l for l in err.decode().splitlines() if not l.startswith(("EAL:", "TELEMETRY:"))]
        assert len(lines) == 1, lines
        return lines[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for f in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                f.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def udp(family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(1)
    return s


def echoes(s, to, payload, tries=5):
    """Whether it comes back; a loss is repaired, as the transport would."""
    for _ in range(tries):
        s.sendto(payload, to)
        with contextlib.suppress(socket.timeout):
            if s.recvfrom(65536)[0] == payload:
                return True
    return False


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ping(s, to, size=56):
    """Through a raw socket: the tool itself may not be installed."""
    head = struct.pack("!BBHHH", 8, 0, 0, 77, 1)
    body = bytes(i & 255 for i in range(size))
    s.sendto(head[:2] + struct.pack("!H", checksum(head + body)) + head[4:] + body, (to, 0))
    end = time.monotonic() + 2
    while time.monotonic() < end:
        with contextlib.suppress(socket.timeout):
            packet, who = s.recvfrom(65536)
            if who[0] == to and packet[20] == 0 and packet[28:] == body:
                return True
    return False


def ping6(s, to, size=56):
    body = bytes(i & 255 for i in range(size))
    s.sendto(struct.pack("!BBHHH", 128, 0, 0, 77, 1) + body, (to, 0))  # the kernel fills in the checksum
    end = time.monotonic() + 2
    while time.monotonic() < end:
        with contextlib.suppress(socket.timeout):
            packet, who = s.recvfrom(65536)
            if packet[0] == 129 and packet[8:] == body:
                return True
    return False


def ip_udp(src, dst, payload, flags_offset=0x4000, sport=5555, dport=PORT):
    """An IPv4 datagram by hand."""
    datagram = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, flags_offset, 64, 17, 0) + socket.inet_aton(src) + socket.inet_aton(dst)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + datagram


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def received(raw, patience, wanted):
    """The first frame for which wanted() is true."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if select.select([raw], [], [], 0.05)[0]:
            frame = raw.recv(65536)
            if wanted(frame):
                return frame
    return None


def check_echo(device, mtu):
    with Veth(mtu=mtu) as v, Echo(v, device, mtu) as e:
        e.up()
        with v.enter("b"):
            four, six = udp(), udp(socket.AF_INET6)
        four.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        for n in (0, 1, 17, 18, 100, 1000, mtu - 29, mtu - 28):
            assert echoes(four, (ADDRESS["a"], PORT), os.urandom(n)), n
        for n in (0, 1, 18, 1000, mtu - 48):
            assert echoes(six, (ADDRESS6["a"], PORT), os.urandom(n)), n
        s = e.end()
        assert s["rx"] >= 13 and s["tx"] == s["rx"], s
        assert s["not_ours"] == s["bad_length"] == s["bad_checksum"] == s["unreachable"] == 0, s


def check_kernel_keeps_the_rest(device):
    """ARP (by the first datagram), ping, TCP and other UDP ports stay with the kernel, and it does not answer for ours."""
    with Veth() as v, Echo(v, device) as e:
        e.up()
        with v.enter("a"):
            other, listener = udp(), socket.create_server((ADDRESS["a"], 7443))
        other.bind((ADDRESS["a"], PORT + 1))
        with v.enter("b"):
            s = udp()
            icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            icmp6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            icmp.settimeout(0.5)
            icmp6.settimeout(0.5)
            assert echoes(s, (ADDRESS["a"], PORT), b"ours")
            s.sendto(b"not ours", (ADDRESS["a"], PORT + 1))
            assert other.recvfrom(100)[0] == b"not ours"
            client = socket.create_connection((ADDRESS["a"], 7443), timeout=2)
            client.sendall(b"by TCP")
            assert listener.accept()[0].recv(100) == b"by TCP"
            assert ping(icmp, ADDRESS["a"])
            assert ping6(icmp6, ADDRESS6["a"])
            # Had the kernel answered "port unreachable", this socket would be told.
            s.connect((ADDRESS["a"], PORT))
            for _ in range(20):
                s.send(b"again")
                assert s.recv(100) == b"again"
        assert e.end()["answered"] == 0


def check_neighbours(device):
    """Whatever comes is answered to where it came from: another subnet's address, another MAC address, a VLAN."""
    with Veth() as v, Echo(v, device) as e:
        e.up()
        with v.enter("b"):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        raw.bind(("vb", 0))
        index = int(v.ip("b", "-o", "link", "show", "vb").stdout.split(":")[0])
        raw.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b""))
        edge = mac_bytes(v.mac("a"))
        router, phone = bytes.fromhex("020000000a01"), bytes.fromhex("020000000a02")
        tag = struct.pack("!HH", 0x8100, 42)
        cases = [(router, b"", "192.0.2.9"), (phone, b"", "10.78.0.77"), (router, tag, "198.51.100.3"), (phone, tag, "192.0.2.9")]
        for k, (mac, vlan, ip) in enumerate(cases):
            payload = b"number %d" % k
            frame = edge + mac + vlan + b"\x08\x00" + ip_udp(ip, ADDRESS["a"], payload)
            back = None
            for _ in range(5):
                raw.send(frame)
                back = received(raw, 1, lambda f: f[:6] == mac and f.endswith(payload))
                if back:
                    break
            assert back, (k, "no answer")
            assert back[6:12] == edge, back[:14]
            # A tag may have been taken off by the interface on the way to this socket: then it is not in the frame.
            ip_at = 18 if back[12:14] == b"\x81\x00" else 14
            if vlan and ip_at == 18:
                assert back[12:16] == tag
            assert back[ip_at + 16:ip_at + 20] == socket.inet_aton(ip)
        s = e.end()
        assert s["tx"] >= 4 and s["unreachable"] == 0, s


def check_fragments(device, seen):
    """First fragments without the rest of their datagrams."""
    with Veth() as v, Echo(v, device) as e:
        e.up()
        with v.enter("b"):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            s = udp()
        raw.bind(("vb", 0))
        head = mac_bytes(v.mac("a")) + mac_bytes(v.mac("b")) + b"\x08\x00"
        assert echoes(s, (ADDRESS["a"], PORT), b"before")
        for _ in range(10):
            raw.send(head + ip_udp(ADDRESS["b"], ADDRESS["a"], b"x" * 64, flags_offset=0x2000))
        assert echoes(s, (ADDRESS["a"], PORT), b"after")
        counted = e.end()
        assert counted["ip_fragment"] == seen and counted["rx"] >= 2, counted


def check_link(device):
    with Veth() as v, Echo(v, device) as e:
        e.up()
        with v.enter("b"):
            s = udp()
        assert echoes(s, (ADDRESS["a"], PORT), b"before")
        for side, name in (("a", "va"), ("b", "vb")):
            v.ip(side, "link", "set", name, "down")
            e.expect("down")
            v.ip(side, "link", "set", name, "up")
            e.expect("ready")
            assert echoes(s, (ADDRESS["a"], PORT), b"after " + side.encode(), tries=15)
        assert e.end()["reconnects"] == 2


def test_af_xdp_echo():
    check_echo("af_xdp:va", 1500)


def test_af_xdp_largest_frames():
    check_echo("af_xdp:va", 3400)


def test_af_packet_echo():
    check_echo("af_packet:va", 1500)


def test_af_packet_jumbo_frames():
    check_echo("af_packet:va", 9000)


def test_af_xdp_kernel_keeps_the_rest():
    check_kernel_keeps_the_rest("af_xdp:va")


def test_af_packet_kernel_keeps_the_rest():
    check_kernel_keeps_the_rest("af_packet:va")


def test_af_xdp_answers_to_where_it_came_from():
    check_neighbours("af_xdp:va")


def test_af_packet_answers_to_where_it_came_from():
    check_neighbours("af_packet:va")


def test_af_xdp_fragments():
    check_fragments("af_xdp:va", 10)


def test_af_packet_fragments():
    check_fragments("af_packet:va", 0)  # its driver has the kernel put them together: these stay there


def test_af_xdp_link_down_and_up():
    check_link("af_xdp:va")


def test_af_packet_link_down_and_up():
    check_link("af_packet:va")


def test_af_xdp_one_at_a_time_and_after_a_kill():
    with Veth() as v:
        with Echo(v, "af_xdp:va") as e:
            e.up()
            with Echo(v, "af_xdp:va") as second:
                assert "busy" in second.refusal()
            e.process.kill()
            e.process.wait()
        assert "xdp" in v.ip("a", "link", "show", "va").stdout, "a killed process's program should still be there"
        with Echo(v, "af_xdp:va") as e:
            e.up()
            with v.enter("b"):
                assert echoes(udp(), (ADDRESS["a"], PORT), b"again")
            e.end()
        assert "xdp" not in v.ip("a", "link", "show", "va").stdout


def test_af_packet_port_taken():
    with Veth() as v:
        with v.enter("a"):
            holder = udp()
        holder.bind((ADDRESS["a"], PORT))
        with Echo(v, "af_packet:va") as e:
            assert f"UDP port {PORT} is taken" in e.refusal()


def test_interface_unfit():
    with Veth() as v:
        for device, mtu, says in (("af_xdp:vz", 1500, "no network interface vz"), ("af_packet:va", 3000, "mtu 3000"),
                                  ("af_xdp:va", 3401, "at most 3400")):
            with Echo(v, device, mtu) as e:
                line = e.refusal()
                assert says in line, line


def test_tap_answers_for_itself():
    """The kernel is on the far side: it finds the port by ARP and neighbour discovery, and pings it."""
    with Veth() as v, Echo(v, "tap:vt0", ip="10.79.0.1", ip6="fd79::1") as e:
        first = e.line()
        v.ip("a", "link", "set", "vt0", "up")
        for address in ("10.79.0.2/24", "fd79::2/64"):
            v.ip("a", "addr", "add", address, "dev", "vt0", *(["nodad"] if ":" in address else []))
        if first == "down":
            e.expect("ready")
        with v.enter("a"):
            four, six = udp(), udp(socket.AF_INET6)
            icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            icmp6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            icmp.settimeout(0.5)
            icmp6.settimeout(0.5)
        assert echoes(four, ("10.79.0.1", PORT), b"over IPv4")
        assert echoes(six, ("fd79::1", PORT), b"over IPv6")
        assert ping(icmp, "10.79.0.1") and ping(icmp, "10.79.0.1", 1400)
        assert ping6(icmp6, "fd79::1")
        assert not ping(icmp, "10.79.0.3")
        for _ in range(400):  # a flood is not answered in full
            icmp.sendto(struct.pack("!BBHHH", 8, 0, checksum(struct.pack("!BBHHH", 8, 0, 0, 1, 1)), 1, 1), ("10.79.0.1", 0))
        time.sleep(0.3)
        s = e.end()
        assert s["answered"] >= 5 and s["answer_limit"] > 0, s


if __name__ == "__main__":
    run_tests(globals())
