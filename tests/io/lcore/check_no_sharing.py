#!/usr/bin/python3
"""Data lcores share nothing but rings: the code that they run has no atomic read-modify-write.

Disassembles the archives named and fails on every instruction with a lock prefix, or that is one without it (xchg with memory),
but for the full fence on the thread's own stack that the lcore takes before it sleeps and where it may have to wake another.
Usage: check_no_sharing.py OBJDUMP COMPILER ARCHIVE..."""
import os
import platform
import re
import subprocess
import sys
import tempfile

FENCE = re.compile(r"lock or[lq]\s+\$0x0,-?(0x[0-9a-f]+)?\(%rsp\)")
SHARED = re.compile(r"\block\b|\bxchg\b.*\(")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
PROOF = """
unsigned long plain, fenced;
void add(unsigned long *p) { __atomic_fetch_add(p, 1, __ATOMIC_RELAXED); }
void swap(unsigned long *p) { __atomic_store_n(p, 1, __ATOMIC_SEQ_CST); }
void own(void) { __atomic_store_n(&plain, plain + 1, __ATOMIC_RELAXED); __atomic_thread_fence(__ATOMIC_SEQ_CST); fenced = plain; }
"""


def shared(objdump, path):
    """(function, instruction) of all that is not the thread's own."""
    text = subprocess.run([objdump, "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True).stdout
    function, found, lines = "?", [], 0
    for line in text.splitlines():
        begin = FUNCTION.match(line)
        if begin:
            function = begin.group(1)
        elif ":\t" in line:
            lines += 1
            instruction = line.split(":\t", 1)[1].strip()
            if SHARED.search(instruction) and not FENCE.search(instruction):
                found.append((function, instruction))
    assert lines > 0, f"{path}: nothing in it"
    return found


def check_the_check(objdump, compiler):
    """It has to find what it looks for."""
    with tempfile.TemporaryDirectory() as where:
        source, made = os.path.join(where, "a.c"), os.path.join(where, "a.o")
        with open(source, "w", encoding="ascii") as f:
            f.write(PROOF)
        subprocess.run([*compiler.split(), "-O2", "-c", source, "-o", made], check=True)
        assert {f for f, _ in shared(objdump, made)} == {"add", "swap"}, shared(objdump, made)


def main(objdump, compiler, *archives):
    if platform.machine() != "x86_64":
        print("SKIP: x86-64: other machines' instructions are not known here")
        return 77
    check_the_check(objdump, compiler)
    found = [(os.path.basename(a), *f) for a in archives for f in shared(objdump, a)]
    for row in found:
        print("%s: %s: %s" % row)
    print(f"{len(archives)} archives, {len(found)} shared writes")
    return 1 if found else 0


sys.exit(main(*sys.argv[1:]))
