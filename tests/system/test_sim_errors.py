#!/usr/bin/python3
"""What a user gets wrong: sluice-sim ends with status 1 and one line that names file and line, whatever it was."""
import os
import re

from harness import Run, Skip, experiment, one_line_error, phone_class, run_tests

ARRIVALS = "time_s,device,event\n0,0,arrive\n"
TOO_MANY = 10_000_001  # lines: what a link's record may have, and one more


def refused(run, file, line, says):
    """Status 1 and one line, which names that line of that file (None: some line of it)."""
    sim = run.start_sim()
    run.finish(sim, timeout=120)
    text = run.output(sim)
    assert sim.returncode == 1, (sim.returncode, text[-1500:])
    said = one_line_error(text)
    assert len([l for l in text.splitlines() if l.strip() and "running as root" not in l]) == 1, text
    assert re.search(re.escape(f"{file}:") + (r"\d+" if line is None else str(line)) + ": ", said), f"wanted {file}:{line} in: {said}"
    assert says in said, f"wanted '{says}' in: {said}"


def with_class(**changes):
    """An experiment of one class; what `changes` has as None is left out of it."""
    one = phone_class("a", 1, **changes)
    what = experiment(fleet=[{k: v for k, v in one.items() if v is not None}])
    what["training"]["deterministic"] = False
    return what


def line_of(run, key):
    """The first line of the experiment file that holds that."""
    with open(run.file, encoding="utf-8") as f:
        return next(n for n, text in enumerate(f, 1) if key in text)


def put(run, name, text):
    path = os.path.join(run.dir, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def with_record(text, says, line, of=lambda path: {"trace": {"up": path, "down": path}}, name="record"):
    """A link's record, or a class's arrivals, in a file of its own."""
    with Run(experiment()) as run:
        path = put(run, name, text)
        change = of(path)
        if "arrivals" in change:
            run.write_experiment(with_class(**change))
        else:
            run.write_experiment(with_class(link={"rtt_ms": 10, **change}))
        refused(run, path, line, says)


def test_an_empty_trace():
    with_record("", "", 1)


def test_a_decreasing_trace():
    with_record("5\n7\n6\n", "", 3)


def test_a_trace_that_is_not_numbers():
    with_record("5\nseven\n", "", 2)


def test_a_trace_with_more_lines_than_anything_has():
    with_record("0\n" * TOO_MANY, "", TOO_MANY)


def test_a_negative_rate_in_a_series():
    with_record("time_s,up_mbps,down_mbps\n0,10,20\n1,-3,20\n", "", 3, of=lambda path: {"rates": {"file": path}}, name="rates.csv")


def test_a_negative_rate_in_the_file():
    with Run(with_class(link={"up_mbps": -1, "down_mbps": 10, "rtt_ms": 10}), pki=False) as run:
        refused(run, run.file, line_of(run, 'up_mbps: -1'), "link.up_mbps")


def test_a_class_without_a_battery():
    with Run(with_class(battery_mah=None), pki=False) as run:
        refused(run, run.file, line_of(run, 'class: a'), "battery_mah")


def test_a_dirichlet_alpha_that_is_not_positive():
    for alpha in (0, -0.5):
        what = experiment()
        what["data"].update(shards="dirichlet", dirichlet={"alpha": alpha})
        with Run(what, pki=False) as run:
            refused(run, run.file, line_of(run, 'alpha: ' + str(alpha)), "alpha")


def test_labels_that_are_not_there():
    what = experiment()
    what["data"].update(shards="dirichlet", dirichlet={"alpha": 1, "by": "label"})
    with Run(what, pki=False) as run:
        text = put(run, "text.jsonl", '{"text": "one", "label": "a"}\n{"text": "two"}\n')
        what["data"]["path"] = text
        run.write_experiment(what)
        refused(run, text, 2, "label")


def test_arrivals():
    of = lambda path: {"arrivals": {"trace": path}}
    with_record("", "no event", 1, of=of)
    with_record(ARRIVALS + "5,0,depart\n4,0,arrive\n", "before", 4, of=of)
    with_record(ARRIVALS + "5,1,arrive\n", "none of the class's", 3, of=of)
    with_record(ARRIVALS + "\n" * 8_000_001, "lines", None, of=of)


def test_a_negative_arrival_rate():
    with Run(with_class(arrivals={"per_hour": -3, "stay_s": 10}), pki=False) as run:
        refused(run, run.file, line_of(run, 'per_hour: -3'), "per_hour")


def test_more_cells_than_there_are():
    """Whatever way the file says it: a class in a radio that is not defined, a radio that needs more cells than it has."""
    with Run(experiment(), pki=False) as run:
        what = with_class(link={"rtt_ms": 10, "radio": "nowhere"})
        run.write_experiment(what)
        sim = run.start_sim()
        run.finish(sim, timeout=60)
        if "not supported by this version" in run.output(sim):
            raise Skip("link.radio")
        run.write_experiment(what)
        refused(run, run.file, None, "radio")


def test_an_unknown_key_of_a_class():
    with Run(with_class(link={"up_mbps": 1, "down_mbps": 1, "rtt_ms": 1, "colour": "red"}), pki=False) as run:
        refused(run, run.file, line_of(run, 'colour'), "colour")


if __name__ == "__main__":
    run_tests(globals())
