#!/usr/bin/python3
"""Arrows point one way: what each folder may include (docs/architecture.md), and where rte_* and liburing may appear."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Folder: folders that it may include directly. What a folder may include, its users may include too.
MAY_INCLUDE = {
    "dataplane/wire": [],
    "dataplane/ring": [],
    "dataplane/crypto": [],
    "dataplane/transport": ["dataplane/wire", "dataplane/crypto"],
    "dataplane/control": ["dataplane/wire", "dataplane/crypto"],
    "dataplane/ingest": ["dataplane/transport", "dataplane/ring"],
    "dataplane/io/lcore": ["dataplane/transport", "dataplane/ingest", "dataplane/ring"],
    "dataplane/io/dpdk": ["dataplane/io/lcore", "dataplane/control"],
    "dataplane/io/uring": ["dataplane/io/lcore", "dataplane/control"],
    "trainer/tensor": [],
    "trainer/model": ["trainer/tensor"],
    "trainer/data": ["trainer/model"],
    "trainer/pipeline": ["trainer/model", "dataplane/ring", "dataplane/ingest"],
    "trainer/plan": ["trainer/tensor"],
    "trainer/experiment": ["trainer/tensor"],
    "trainer/edge": ["dataplane/io/dpdk", "dataplane/io/uring", "trainer/pipeline", "trainer/data", "trainer/plan", "trainer/experiment"],
    "trainer/tools": ["trainer/pipeline", "trainer/model", "trainer/data", "trainer/plan", "trainer/experiment"],
    "device-sim/life": ["trainer/tensor"],
    "device-sim/link": ["dataplane/transport", "dataplane/ring", "trainer/tensor", "trainer/experiment"],
    "device-sim/radio": ["device-sim/link", "trainer/tensor"],
    "device-sim/body": ["trainer/tensor"],
    "device-sim/replay": ["dataplane/wire", "trainer/tensor"],
    "device-sim/profile": [],
    "device-sim/sink": ["dataplane/io/lcore", "trainer/tensor"],
    "device-sim/device": ["dataplane/transport", "dataplane/control", "trainer/model", "trainer/data", "trainer/plan"],
    "device-sim/virtual": ["device-sim/device", "dataplane/io/lcore", "trainer/pipeline", "trainer/plan", "trainer/experiment"],
    "device-sim/fleet": ["device-sim/device", "device-sim/replay", "device-sim/virtual", "device-sim/body", "device-sim/life", "device-sim/link", "device-sim/radio",
                         "device-sim/profile", "device-sim/sink", "dataplane/io/dpdk", "dataplane/io/uring", "trainer/plan",
                         "trainer/experiment"],
}
# Third-party headers that belong into few folders.
CONFINED = {
    r"^rte_ring": ["dataplane/io/dpdk", "dataplane/ring"],
    r"^rte_(?!ring)": ["dataplane/io/dpdk"],
    r"^liburing": ["dataplane/io/uring"],
    r"^(intel-ipsec-mb|openssl/ssl)": ["dataplane/crypto"],
    r"^cblas": ["trainer/tensor"],
}
SOURCE = re.compile(r"\.[ch]$")
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.M)


def closure(folder):
    seen, frontier = set(), [folder]
    while frontier:
        at = frontier.pop()
        if at not in seen:
            seen.add(at)
            frontier += MAY_INCLUDE[at]
    return seen


def folder_of(path):
    folder = os.path.dirname(path)
    while folder and folder not in MAY_INCLUDE:
        folder = os.path.dirname(folder)
    return folder or None


def check(path, problems):
    folder = folder_of(path)
    if folder is None:
        problems.append(f"{path}: lies in no folder of the table")
        return
    allowed = closure(folder)
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        text = f.read()
    for ours, foreign in INCLUDE.findall(text):
        if ours:
            target = folder_of(ours)
            if target is None:
                problems.append(f'{path}: includes "{ours}", not a path from the root into a folder of the table')
            elif target not in allowed:
                problems.append(f"{path}: {folder} may not include {target}")
        for pattern, folders in CONFINED.items():
            if foreign and re.match(pattern, foreign) and folder not in folders:
                problems.append(f"{path}: <{foreign}> belongs into {', '.join(folders)} only")


def main():
    problems, files = [], 0
    for top in ("dataplane", "trainer", "device-sim"):
        for base, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                if SOURCE.search(name):
                    files += 1
                    check(os.path.relpath(os.path.join(base, name), ROOT), problems)
    print("\n".join(problems) or f"{files} files: every include follows the arrows")
    return 1 if problems or files == 0 else 0


sys.exit(main())
