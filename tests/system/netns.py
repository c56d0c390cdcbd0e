"""Two network namespaces of their own, joined by a veth pair; taken away at the end. Needs root.

    namespace a                                     namespace b
   ┌───────────────────────────┐                   ┌───────────────────────────┐
   │ va  10.78.0.1/24 fd78::1  │ ───── veth ────── │ vb  10.78.0.2/24 fd78::2  │
   └───────────────────────────┘                   └───────────────────────────┘
"""
import ctypes
import os
import subprocess

from harness import Skip

ADDRESS = {"a": "10.78.0.1", "b": "10.78.0.2"}
ADDRESS6 = {"a": "fd78::1", "b": "fd78::2"}
INTERFACE = {"a": "va", "b": "vb"}
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_serial = 0


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


class Veth:
    def __init__(self, mtu=1500):
        global _serial
        if os.geteuid() != 0:
            raise Skip("root, to make network namespaces")
        _serial += 1
        self.names = {side: f"sluice-{os.getpid()}-{_serial}-{side}" for side in "ab"}
        self.mtu = mtu
        try:
            for side in "ab":
                run("ip", "netns", "add", self.names[side])
            run("ip", "-n", self.names["a"], "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", self.names["b"])
            for side in "ab":
                self._configure(side)
        except (OSError, subprocess.CalledProcessError) as e:
            self.close()
            raise Skip(f"network namespaces and veth ({getattr(e, 'stderr', e)})") from None

    def _configure(self, side):
        for command in (["link", "set", "lo", "up"], ["link", "set", INTERFACE[side], "mtu", str(self.mtu), "up"],
                        ["addr", "add", ADDRESS[side] + "/24", "dev", INTERFACE[side]],
                        ["addr", "add", ADDRESS6[side] + "/64", "dev", INTERFACE[side], "nodad"]):
            self.ip(side, *command)

    def ip(self, side, *command):
        return run("ip", "-n", self.names[side], *command)

    def inside(self, side):
        """What a command is preceded by to run in the namespace of that side."""
        return ["ip", "netns", "exec", self.names[side]]

    def mac(self, side):
        return self.ip(side, "-o", "link", "show", INTERFACE[side]).stdout.split("link/ether ")[1].split()[0]

    def enter(self, side):
        """Sockets that this thread makes within the context are of that side's namespace."""
        return _Entered("/run/netns/" + self.names[side])

    def close(self):
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Entered:
    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        with open(self.path, "rb") as f:
            if _libc.setns(f.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def __exit__(self, *_):
        _libc.setns(self.home, _CLONE_NEWNET)
        os.close(self.home)
