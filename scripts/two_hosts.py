"""Carries an experiment between the edge's host and the fleet's: one file there, one file back. Used by scripts/run.

Neither file is believed: only regular files of known names are taken out of it, of bounded size, into a new directory."""
import io
import os
import re
import tarfile

import report

BUNDLE, RESULTS = "fleet.tar", "fleet-results.tar"
MAX_FILE_BYTES = 1 << 32
_BUNDLED = re.compile(r"^(experiment\.yaml|pki/ca\.pem|pki/device-[0-9]{5}\.(pem|key))$")
_RETURNED = re.compile(r"^(sim\.jsonl|sim\.log|heldout\.ids|central\.(ids|phones)|fleet-manifest\.json)$")


class Refused(Exception):
    """One line for the user."""


def _pack(path, run_dir, names):
    fd = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as f, tarfile.open(fileobj=f, mode="w") as tar:
        for name in names:
            with open(os.path.join(run_dir, name), "rb") as source:
                data = source.read()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o600
            tar.addfile(info, io.BytesIO(data))
    os.replace(path + ".tmp", path)
    return path


def _unpack(path, run_dir, allowed, what):
    taken = []
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                if not member.isreg() or not allowed.match(member.name) or member.size > MAX_FILE_BYTES:
                    raise Refused(f"{path}: holds {member.name!r}: this is not {what}")
                target = os.path.join(run_dir, member.name)
                os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
                fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
                with os.fdopen(fd, "wb") as out:
                    source = tar.extractfile(member)
                    while block := source.read(1 << 20):
                        out.write(block)
                taken.append(member.name)
    except (tarfile.TarError, EOFError) as error:
        raise Refused(f"{path}: {error}: this is not {what}") from None
    if not taken:
        raise Refused(f"{path}: is empty: this is not {what}")
    return taken


def write_bundle(run_dir, devices):
    """What the fleet's host needs: the experiment, the CA's certificate, the phones' certificates and keys. Returns its path."""
    names = ["experiment.yaml", "pki/ca.pem"] + [f"pki/{d}.{kind}" for d in devices for kind in ("pem", "key")]
    return _pack(os.path.join(run_dir, BUNDLE), run_dir, names)


def take_bundle(path, run_dir):
    taken = _unpack(path, run_dir, _BUNDLED, "a bundle that scripts/run --role edge wrote")
    if "experiment.yaml" not in taken or "pki/ca.pem" not in taken:
        raise Refused(f"{path}: lacks the experiment or the CA's certificate: this is not a whole bundle")


def write_results(run_dir):
    """What the edge's host needs for the report. Returns its path."""
    os.replace(os.path.join(run_dir, "manifest.json"), os.path.join(run_dir, "fleet-manifest.json"))
    names = [n for n in ("sim.jsonl", "sim.log", "heldout.ids", "central.ids", "central.phones", "fleet-manifest.json")
             if os.path.exists(os.path.join(run_dir, n))]
    return _pack(os.path.join(run_dir, RESULTS), run_dir, names)


def take_results(path, run_dir):
    taken = _unpack(path, run_dir, _RETURNED, "what scripts/run --role fleet wrote")
    if "sim.jsonl" not in taken:
        raise Refused(f"{path}: lacks sim.jsonl: the fleet's run wrote nothing")


def backend_hindrance(experiment):
    """Why this experiment's programs cannot run on two hosts; None: they can."""
    backend = experiment.get("edge", {}).get("data", {}).get("backend", "memif")
    if str(backend).startswith("memif") or "net_memif" in str(backend):
        return "edge.data.backend: memif joins two programs of one host; use uring_udp, af_xdp:INTERFACE or a NIC (docs/experiment.md)"
    return None


def control_hint(experiment):
    """A line where nobody on another host could reach the edge; None otherwise."""
    host = str(experiment.get("edge", {}).get("control", "127.0.0.1")).rsplit(":", 1)[0].strip("[]")
    return "edge.control is a loopback address: only a fleet on this host reaches it" if host.startswith("127.") or host == "::1" else None


def load_manifest_calibration(run_dir):
    path = os.path.join(run_dir, "fleet-manifest.json")
    return (report.load_yaml(path) or {}).get("calibration") or {} if os.path.exists(path) else {}
