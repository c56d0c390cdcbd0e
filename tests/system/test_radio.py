#!/usr/bin/python3
"""Phones in radio cells, two real processes: one drives from cell to cell, its address changes as it goes, and training
is what it is without."""
import os

from harness import Run, experiment, phone_class, run_tests


def town(run_dir, **changes):
    """Two cells on a road of 400 m, up and down at 40 m/s: a handover each 10 s at the latest."""
    path = os.path.join(run_dir, "road.csv")
    with open(path, "w", encoding="ascii") as f:
        f.write("t_s,x_m,y_m\n0,150,1\n2.5,250,1\n")
    return {"name": "road", "path_loss": "umi", "base_m": 10, "shadowing": False, "cells": {"at": [[0, 0], [400, 0]]},
            "mobility": {"model": "path", "path": path},
            "handover": {"hysteresis_db": 1, "trigger_ms": 40, "measure_ms": 20, "interruption_ms": 30, "new_address": True}, **changes}


def drive(steps, radio=None):
    link = {"rtt_ms": 10, "queue_kib": 1024}
    what = experiment(fleet=[phone_class("car", count=2, compute_gflops=2, link={**link, "radio": "road"} if radio else {**link, "up_mbps": 50, "down_mbps": 50})],
                      plan={"cut": 3}, run={"steps": steps})
    return what


def test_training_across_handovers_and_addresses():
    steps = 60
    still = drive(steps)
    with Run(still) as run:
        run.run_both()
        expected = run.losses()
    what = drive(steps, radio=True)
    with Run(what) as run:
        what["radio"] = [town(run.dir)]
        run.write_experiment(what)
        run.run_both()
        assert run.losses() == expected  # deterministic: what the air does to packets changes no sum
        seen = run.events("sim", "phone")
        print("   ", [{k: p[k] for k in ("handovers", "cell", "retransmits") if k in p} for p in seen])
        assert len(seen) == 2 and all(p["end"] == "done" and p["steps"] == steps for p in seen), seen
        assert all(p["handovers"] >= 2 for p in seen), seen  # away, and home again


run_tests(globals())
