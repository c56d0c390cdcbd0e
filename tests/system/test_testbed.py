#!/usr/bin/python3
"""A whole training run in the virtual testbed (scripts/testbed-vm): two programs, two NICs, vfio-pci, an IOMMU.
SLUICE_TESTBED_NICS names others than the one that CI runs: e1000e,vmxnet3,virtio; SLUICE_TESTBED_HOSTS=2 gives each
program a guest of its own."""
import json
import os
import shutil
import subprocess
import tempfile

import harness

TESTBED = os.path.join(harness.ROOT, "scripts", "testbed-vm")
NICS = os.environ.get("SLUICE_TESTBED_NICS", "vmxnet3").split(",")
HOSTS = os.environ.get("SLUICE_TESTBED_HOSTS", "1")
FETCH_S = 300
RUN_S = 1800


def need_testbed():
    missing = [t for t in ("qemu-system-x86_64", "busybox", "cpio", "depmod") if not shutil.which(t, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if missing:
        raise harness.Skip(f"{', '.join(missing)} (scripts/setup --testbed installs them)")
    fetched = subprocess.run([TESTBED, "fetch"], capture_output=True, text=True, timeout=FETCH_S, check=False)
    if fetched.returncode:
        raise harness.Skip("Debian's kernel, which could not be fetched: " + harness.one_line_error(fetched.stderr))


def test_nics__carry_a_training_run():
    need_testbed()
    with tempfile.TemporaryDirectory() as folder:
        losses = []
        for nic in NICS:
            out = os.path.join(folder, nic + ".json")
            done = subprocess.run([TESTBED, "run", "--nic", nic, "--hosts", HOSTS, "--json", out, "--build", harness.BUILD], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=RUN_S, check=False)
            assert done.returncode == 0, f"{nic}:\n{done.stdout}"
            with open(out, encoding="utf-8") as f:
                (result,) = json.load(f)
            print(f"  {nic}: {result['seconds']} s, {result['cpu_seconds']} s of CPU", flush=True)
            assert result["steps"] == len(result["losses"]) == 5, result
            assert result["heldout_nll"][1] < result["heldout_nll"][0], result
            assert result["up"]["received"] > 100 and result["down"]["received"] > 100, result
            assert any("privileges dropped" in line for line in result["edge_said"]), result["edge_said"]
            for said in ("is with vfio-pci now", "is with " + {"virtio": "virtio-pci"}.get(nic, nic) + " again"):
                assert said in done.stdout, f"does not say '{said}':\n{done.stdout}"
            if HOSTS == "2":  # the card that carries the default route in the guests
                assert done.stdout.count("if that is meant, give --force twice") == 2, done.stdout
            losses.append(result["losses"])
        for other in losses[1:]:  # the same arithmetic, whatever carried it: rules L7 but for the gang's order of arrival
            assert all(abs(a - b) <= 1e-6 * a for a, b in zip(losses[0], other)), losses


harness.run_tests(globals())
