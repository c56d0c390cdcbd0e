#!/usr/bin/python3
"""Whole programs under ThreadSanitizer: control, data lcores, trainer, its pool and the simulator's threads together. Only in builds with -Db_sanitize=thread."""
import os

from harness import Run, experiment, phone_class, run_tests

os.environ["TSAN_OPTIONS"] = "halt_on_error=0 exitcode=66 " + os.environ.get("TSAN_OPTIONS", "")


def assert_clean(training, edge_changes, **changes):
    what = experiment(training={"lora": {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj"]}, "optimizer": {"kind": "adamw", "lr": 1.0e-3},
                                "aggregate_every": 3, **training}, fleet=[phone_class("phone", 3)], run={"steps": 12}, **changes)
    what["data"]["held_out_windows"] = 4
    what["edge"]["data"]["backend"] = "uring_udp"  # the kernel's: all of what moves packets is ours and instrumented
    what["edge"].update(edge_changes)
    what["edge"]["data"].update(edge_changes.get("data", {}))
    with Run(what) as run:
        edge, sim = run.run_both()
        for program in (edge, sim):
            assert "ThreadSanitizer" not in run.output(program), run.output(program)[:6000]


def test_threads__synchronous_gangs():
    assert_clean({}, {})


def test_threads__asynchronous_gangs_many_lcores_and_a_pool():
    what = experiment()["edge"]
    assert_clean({"gang": {"policy": "async"}}, {"threads": 2, "data": {**what["data"], "codec": "bf16", "lcores": 2}})


if __name__ == "__main__":
    run_tests(globals())
