#!/usr/bin/python3
"""Every command that README.md shows works as it stands there."""
import os
import re
import shutil
import subprocess
import tempfile

from harness import BUILD, ROOT, run_tests

# Run by other tests, or would run themselves again; here it is only checked that they exist and explain themselves.
COVERED_ELSEWHERE = {"./scripts/demo": "test_demo.py", "./scripts/test": "this suite is its run"}


def commands():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        blocks = re.findall(r"```sh\n(.*?)```", f.read(), re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_commands():
    found = commands()
    assert len(found) >= 6, found
    with tempfile.TemporaryDirectory(prefix="sluice-readme-") as work:
        # A user's checkout, with the built programs where the README says they are.
        for name in os.listdir(ROOT):
            if not name.startswith((".git", "build", "runs")):
                os.symlink(os.path.join(ROOT, name), os.path.join(work, name))
        os.symlink(os.path.abspath(BUILD), os.path.join(work, "build"))
        for command in found:
            if command in COVERED_ELSEWHERE:
                assert os.access(os.path.join(ROOT, command), os.X_OK), command
                continue
            if command.startswith("./scripts/run "):
                shorten(os.path.join(work, "my.yaml"))
            done = subprocess.run(command, shell=True, cwd=work, capture_output=True, text=True, timeout=300,
                                  env={**os.environ, "SLUICE_BUILD": os.path.join(work, "build")})
            assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
            print(f"   ok: {command}")


def shorten(path):
    """The user's copy of the demo, with three steps: the demo itself is another test's."""
    assert os.path.exists(path), "the README copies an experiment first"
    with open(path, encoding="utf-8") as f:
        text = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(re.sub(r"steps: \d+", "steps: 4", text).replace("held_out_windows: 256", "held_out_windows: 16"))


def test_linked_files_exist():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        text = f.read()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert os.path.exists(os.path.join(ROOT, target)), target


run_tests(globals())
