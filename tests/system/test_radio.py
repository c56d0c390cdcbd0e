#!/usr/bin/python3
"""Phones in radio cells, two real processes: one drives from cell to cell, its address changes as it goes, and training
is what it is without."""
import json
import os

from harness import Run, experiment, one_line_error, phone_class, run_tests


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
        with open(os.path.join(run.dir, "events.jsonl"), encoding="ascii") as f:
            moves = [e["phone"] for e in map(json.loads, f) if e["event"] == "radio_moved"]
        for p in seen:
            assert moves.count(p["index"]) >= p["handovers"] > 0, (moves, seen)  # the report's is up to 20 ms old


def test_what_is_refused():
    cells = {"layout": "line", "count": 2}
    for radio, link, says, words in (({"cells": cells}, {"radio": "road", "cell": 3}, "class: car", "only 2 cells"),
                                     ({"cells": cells}, {"radio": "rail"}, "class: car", "'rail'"),
                                     ({"cells": cells, "bandwidth_mhz": -20}, {"radio": "road"}, "bandwidth_mhz: -20", "bandwidth_mhz"),
                                     ({"cells": {"layout": "line", "count": 0}}, {"radio": "road"}, "count: 0", "count")):
        what = experiment(fleet=[phone_class("car", link={"rtt_ms": 10, **link})], radio=[{"name": "road", **radio}])
        with Run(what, pki=False) as run:
            sim = run.start_sim()
            assert run.finish(sim, timeout=60) != [0], run.output(sim)
            error = one_line_error(run.output(sim))
            assert run.file + ":" in error and words in error, error
            with open(run.file, encoding="utf-8") as f:
                lines = f.read().splitlines()
            number = int(error.split(run.file + ":")[1].split(":")[0])
            assert says in lines[number - 1], (error, lines[number - 1])


run_tests(globals())
