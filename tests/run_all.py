#!/usr/bin/python3
"""Builds and runs every test; ends with one line of counts."""
import argparse
import json
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SANITIZE = ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Doptimization=1"]
THREADS = ["-Db_sanitize=thread", "-Db_lundef=false", "-Doptimization=1"]
PROGRAMS = ["trainer/edge/sluice-edge", "device-sim/fleet/sluice-sim", "trainer/tools/sluice-train"]  # what system/threads runs
SANITIZER_ENV = {
    "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


def build(folder, options):
    env = dict(os.environ, SLUICE_BUILD=folder)
    if subprocess.run([os.path.join(ROOT, "scripts", "build"), *options], env=env, cwd=ROOT).returncode:
        sys.exit(1)


def run_meson_tests(folder, suites, label, env):
    """Runs the suites; returns (passed, failed, skipped)."""
    command = ["meson", "test", "-C", folder, "--print-errorlogs", "--no-rebuild", "--logbase", "testlog-" + label]
    for suite in suites:
        command += ["--suite", suite]
    print(f"test: {label}: {', '.join(suites) if suites else 'all suites'}", flush=True)
    began = time.monotonic()
    subprocess.run(command, cwd=ROOT, env=dict(os.environ, **env))
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    log = os.path.join(ROOT, folder, "meson-logs", f"testlog-{label}.json")
    with open(log, encoding="utf-8") as lines:
        for line in lines:
            result = json.loads(line)
            kind = {"OK": "passed", "SKIP": "skipped", "EXPECTEDFAIL": "passed"}.get(result["result"], "failed")
            counts[kind] += 1
            if kind == "skipped":
                why = [l for l in (result.get("stdout") or "").splitlines() if l.startswith("SKIP")]
                print(f"  skipped: {result['name']}: {why[0] if why else 'no reason given'}")
            if kind == "failed":
                print(f"  failed: {result['name']} ({result['result']})")
    if sum(counts.values()) == 0:
        print(f"test: {label}: no test ran", file=sys.stderr)
        counts["failed"] = 1
    print(f"test: {label}: {time.monotonic() - began:.0f} s", flush=True)
    return counts


def build_threads(folder):
    """Configures for ThreadSanitizer, and builds what the suite `threads` needs alone: all of it would take as long as everything else."""
    werror = ["-Dwerror=true"] if os.environ.get("CI") else []
    path = os.path.join(ROOT, folder)
    if not os.path.exists(os.path.join(path, "build.ninja")):
        if subprocess.run(["meson", "setup", folder, *THREADS, *werror], cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            sys.exit(1)
    introspected = subprocess.run(["meson", "introspect", "--tests", folder], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = [test["cmd"][0] for test in json.loads(introspected.stdout) if any(s.split(":")[-1] == "threads" for s in test["suite"])]
    programs = sorted({os.path.relpath(p, path) for p in wanted if p.startswith(path + os.sep)})
    if subprocess.run(["ninja", "-C", folder, *programs, *PROGRAMS], cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
        print(f"test: the build for ThreadSanitizer failed; ninja -C {folder} shows why", file=sys.stderr)
        sys.exit(1)


def main():
    parser = argparse.ArgumentParser(prog="scripts/test", description=__doc__, epilog="examples: scripts/test    scripts/test --quick    "
                                     "scripts/test --sanitize    scripts/test --threads")
    parser.add_argument("--quick", action="store_true", help="unit tests only")
    parser.add_argument("--threads", action="store_true", help="what several threads share, under ThreadSanitizer")
    parser.add_argument("--sanitize", action="store_true", help="every test under AddressSanitizer and UndefinedBehaviorSanitizer")
    args = parser.parse_args()

    os.environ.pop("OPENBLAS_CORETYPE", None)
    rounds = []
    if args.threads:
        build_threads("build-threads")
        rounds.append(run_meson_tests("build-threads", ["threads"], "threads", {}))
    elif args.sanitize:
        build("build-sanitize", SANITIZE)
        rounds.append(run_meson_tests("build-sanitize", [], "sanitize", SANITIZER_ENV))
    else:
        build("build", [])
        rounds.append(run_meson_tests("build", ["unit"] if args.quick else [], "all", {}))
        if not args.quick:
            build("build-sanitize", SANITIZE)
            rounds.append(run_meson_tests("build-sanitize", ["unit"], "sanitize", SANITIZER_ENV))
            build_threads("build-threads")
            rounds.append(run_meson_tests("build-threads", ["threads"], "threads", {}))
    total = {key: sum(r[key] for r in rounds) for key in ("passed", "failed", "skipped")}
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
