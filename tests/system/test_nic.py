#!/usr/bin/python3
"""scripts/nic on a made-up host: a tree of files in sysfs's shape, and a thread that answers writes as a kernel would."""
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading

import harness

NIC = os.path.join(harness.ROOT, "scripts", "nic")
FIRST, SECOND, BRIDGE, DISK = "0000:02:00.0", "0000:03:00.0", "0000:00:1c.0", "0000:04:00.0"
TIMEOUT_S = 30


class Kernel(threading.Thread):
    """Reads what is written to drivers_probe and to each driver's unbind, and moves the devices' driver links."""

    def __init__(self, host):
        super().__init__(daemon=True)
        self.host, self.refuses, self.pipes = host, set(), {}
        self.stop_read, self.stop_write = os.pipe()

    def listen(self, path, action):
        os.mkfifo(path)
        self.pipes[os.open(path, os.O_RDWR | os.O_NONBLOCK)] = action

    def run(self):
        while True:
            ready, _, _ = select.select([*self.pipes, self.stop_read], [], [])
            if self.stop_read in ready:
                return
            for fd in ready:
                for address in os.read(fd, 4096).decode().split():
                    self.pipes[fd](address)

    def probe(self, address):
        device = self.host.device(address)
        with open(os.path.join(device, "driver_override"), encoding="utf-8") as f:
            driver = f.read().strip() or self.host.natural[address]
        if driver not in self.refuses:
            self.host.give(address, driver)

    def unbind(self, address):
        device = self.host.device(address)
        os.unlink(os.path.join(device, "driver"))
        shutil.rmtree(os.path.join(device, "net"), ignore_errors=True)

    def close(self):
        os.write(self.stop_write, b"x")
        self.join()
        for fd in [*self.pipes, self.stop_read, self.stop_write]:
            os.close(fd)


class Host:
    """Two cards in groups of their own; a bridge in the first's group, a disk elsewhere."""

    def __init__(self, shell):
        self.shell = shell
        self.root = tempfile.mkdtemp(prefix="sluice-nic-")
        self.natural = {}
        self.kernel = Kernel(self)
        self.pci = os.path.join(self.root, "sys/bus/pci")
        os.makedirs(os.path.join(self.pci, "devices"))
        self.kernel.listen(os.path.join(self.pci, "drivers_probe"), self.kernel.probe)
        for driver in ("e1000e", "ixgbe", "pcieport", "nvme", "vfio-pci"):
            os.makedirs(os.path.join(self.pci, "drivers", driver))
            self.kernel.listen(os.path.join(self.pci, "drivers", driver, "unbind"), self.kernel.unbind)
        self.add(FIRST, "0x020000", "e1000e", "14", "eth1")
        self.add(SECOND, "0x020000", "ixgbe", "15", "eth2")
        self.add(BRIDGE, "0x060400", "pcieport", "14")
        self.add(DISK, "0x010802", "nvme", "16")
        self.put("proc/net/route", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n")
        self.put("proc/net/ipv6_route", "0" * 32 + " 00 " + "0" * 32 + " 00 " + "0" * 32 + " ffffffff 00000001 00000000 00200200       lo\n")
        self.pages = self.put("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "3\n")
        self.put("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "3\n")
        self.state = os.path.join(self.root, "run/sluice-nic.state")
        self.kernel.start()

    def put(self, name, text):
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def device(self, address):
        return os.path.join(self.pci, "devices", address)

    def add(self, address, kind, driver, group, interface=None):
        self.natural[address] = driver
        for name, text in (("class", kind), ("vendor", "0x8086"), ("device", "0x10d3"), ("numa_node", "1"), ("driver_override", "")):
            self.put(f"sys/bus/pci/devices/{address}/{name}", text + "\n")
        members = os.path.join(self.root, "sys/kernel/iommu_groups", group, "devices")
        os.makedirs(members, exist_ok=True)
        os.symlink(self.device(address), os.path.join(members, address))
        os.symlink(os.path.dirname(members), os.path.join(self.device(address), "iommu_group"))
        self.interface = {**getattr(self, "interface", {}), address: interface}
        self.give(address, driver)

    def give(self, address, driver):
        link = os.path.join(self.device(address), "driver")
        name = self.interface[address]
        if name and driver == self.natural[address]:
            os.makedirs(os.path.join(self.device(address), "net", name))
            self.put(f"sys/class/net/{name}/operstate", "up\n")
            self.put(f"sys/class/net/{name}/speed", "1000\n")
        os.symlink(os.path.join(self.pci, "drivers", driver), link + ".new")
        os.rename(link + ".new", link)

    def driver(self, address):
        link = os.path.join(self.device(address), "driver")
        return os.path.basename(os.readlink(link)) if os.path.islink(link) else None

    def route(self, interface):
        with open(os.path.join(self.root, "proc/net/route"), "a", encoding="utf-8") as f:
            f.write(f"{interface}\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n{interface}\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n")

    def nic(self, *words, status=0):
        done = subprocess.run([*self.shell, NIC, *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
                              env={**os.environ, "SLUICE_NIC_ROOT": self.root})
        assert done.returncode == status, f"nic {' '.join(words)}: {done.returncode}, not {status}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def cards(self):
        return {card["pci"]: card for card in json.loads(self.nic("show", "--json"))}

    def count(self):
        with open(self.pages, encoding="utf-8") as f:
            return int(f.read())

    def close(self):
        self.kernel.close()
        shutil.rmtree(self.root)


@contextlib.contextmanager
def hosts():
    """The same made-up host for each shell that there is: the script runs in a busybox guest as well."""
    shells = [["sh"]] + [["busybox", "sh"]] * bool(shutil.which("busybox")) + [["bash"]] * bool(shutil.which("bash"))
    made = [Host(shell) for shell in shells]
    try:
        yield made
    finally:
        for host in made:
            host.close()


def test_show__says_what_there_is():
    with hosts() as made:
        for host in made:
            cards = host.cards()
            assert sorted(cards) == [FIRST, SECOND], cards
            assert cards[FIRST] == {"pci": FIRST, "vendor": "0x8086", "device": "0x10d3", "driver": "e1000e", "interfaces": ["eth1"],
                                    "link": "up 1000Mb/s", "numa_node": 1, "iommu_group": "14", "default_route": False,
                                    "use": "bind", "how": cards[FIRST]["how"]}
            text = host.nic("show")
            assert f"scripts/nic bind {SECOND}" in text and "af_xdp:eth2" in text, text
            assert DISK not in text and BRIDGE not in text, text


def test_bind__and_back():
    with hosts() as made:
        for host in made:
            assert f'backend: "{FIRST}"' in host.nic("bind", FIRST)
            assert host.driver(FIRST) == "vfio-pci" and host.driver(SECOND) == "ixgbe"
            assert host.cards()[FIRST]["use"] == "ready" and host.cards()[FIRST]["interfaces"] == []
            assert "already" in host.nic("bind", FIRST.removeprefix("0000:"))
            host.nic("unbind", FIRST)
            assert host.driver(FIRST) == "e1000e" and not os.path.exists(host.state)
            assert "nothing to do" in host.nic("unbind", FIRST)


def test_bind__default_route_twice_told():
    with hosts() as made:
        for host in made:
            host.route("eth1")
            assert host.cards()[FIRST]["default_route"] and not host.cards()[SECOND]["default_route"]
            for words in ([], ["--force"]):
                assert "default route" in host.nic("bind", FIRST, *words, status=1)
                assert host.driver(FIRST) == "e1000e" and not os.path.exists(host.state)
            host.nic("bind", FIRST, "--force", "--force")
            assert host.driver(FIRST) == "vfio-pci"


def test_bind__default_route_through_a_vlan_on_a_bond():
    with hosts() as made:
        for host in made:
            host.route("bond0.7")
            for name, lower in (("bond0.7", "bond0"), ("bond0", "eth2")):
                host.put(f"sys/class/net/{name}/operstate", "up\n")
                os.symlink(f"../{lower}", os.path.join(host.root, "sys/class/net", name, "lower_" + lower))
            assert "default route" in host.nic("bind", SECOND, status=1)
            assert host.driver(SECOND) == "ixgbe"
            host.nic("bind", FIRST)


def test_bind__default_route_of_ipv6():
    with hosts() as made:
        for host in made:
            host.put("proc/net/ipv6_route", "0" * 32 + " 00 " + "0" * 32 + " 00 fe80000000000000000000000000fffe 00000400 00000001 "
                     "00000000 00000003     eth1\n")
            assert "default route" in host.nic("bind", FIRST, status=1)


def test_bind__what_cannot_be():
    with hosts() as made:
        for host in made:
            assert "not a network card" in host.nic("bind", DISK, status=1)
            assert "no such device" in host.nic("bind", "0000:77:00.0", status=1)
            host.nic("bind", "eth1", status=2)
            host.nic("bind", status=2)
            host.nic("tie", FIRST, status=2)
            os.unlink(os.path.join(host.device(SECOND), "iommu_group"))
            assert "iommu=pt" in host.nic("bind", SECOND, status=1)
            assert host.driver(SECOND) == "ixgbe" and not os.path.exists(host.state)


def test_bind__shared_group():
    with hosts() as made:
        for host in made:
            host.add("0000:02:00.1", "0x020000", "e1000e", "14", "eth3")
            assert "0000:02:00.1" in host.nic("bind", FIRST, status=1)
            host.kernel.unbind("0000:02:00.1")
            host.nic("bind", FIRST)  # the bridge in its group does not count


def test_bind__driver_does_not_take_it():
    with hosts() as made:
        host = made[0]
        host.kernel.refuses.add("vfio-pci")
        assert "did not take it" in host.nic("bind", FIRST, status=1) or os.geteuid() != 0
        assert host.driver(FIRST) == "e1000e" and not os.path.exists(host.state)


def test_bind__no_driver():
    with hosts() as made:
        for host in made:
            shutil.rmtree(os.path.join(host.pci, "drivers/vfio-pci"))
            assert "modprobe vfio-pci" in host.nic("bind", FIRST, status=1)
            assert host.driver(FIRST) == "e1000e"


def test_hugepages__reserved_and_given_back():
    with hosts() as made:
        for host in made:
            assert "256 huge pages of 2048 KiB (there were 3)" in host.nic("hugepages", "256")
            host.nic("hugepages", "512")
            assert host.count() == 512
            host.nic("undo")
            assert host.count() == 3 and not os.path.exists(host.state)
            host.nic("hugepages", "many", status=2)
            assert "2048kB" in host.nic("hugepages", "1", "--size", "1048576", status=1)
            os.unlink(host.pages)
            os.symlink("/dev/null", host.pages)  # a kernel that finds no room
            assert "got 0 of 16" in host.nic("hugepages", "16", status=1)


def test_undo__brings_back_everything():
    with hosts() as made:
        for host in made:
            host.nic("hugepages", "64")
            host.nic("bind", FIRST)
            host.nic("bind", SECOND)
            host.nic("hugepages", "128")
            host.nic("unbind", SECOND)
            host.nic("undo")
            assert (host.driver(FIRST), host.driver(SECOND), host.count()) == ("e1000e", "ixgbe", 3)
            assert not os.path.exists(host.state)
            assert "nothing to undo" in host.nic("undo")


def test_check__says_what_is_missing():
    with hosts() as made:
        for host in made:
            assert "missing" not in host.nic("check")
            host.put("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n")
            shutil.rmtree(os.path.join(host.root, "sys/kernel/iommu_groups"))
            text = host.nic("check", status=1)
            assert "scripts/nic hugepages" in text and "intel_iommu=on" in text, text


harness.run_tests(globals())
