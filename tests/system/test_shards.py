#!/usr/bin/python3
"""Uneven shards in whole runs: what phones hold, what they are scored on, and that training works on them."""
import json
import os

from harness import Run, experiment, phone_class, run_tests

LEAST = 60_000  # rules L11


def dirichlet(phones=5, **keys):
    what = experiment(fleet=[phone_class("a", phones)], run={"steps": 10})
    what["data"].update(shards="dirichlet", dirichlet=keys, held_out_windows=64)
    return what


def shards(run):
    return [p["shard_bytes"] for p in run.events("sim", "phone")]


def windows(run, name):
    with open(os.path.join(run.dir, name), encoding="utf-8") as f:
        return f.read()


def test_runs_over_uneven_shards_learn_and_repeat():
    """alpha 0.1, 0.5 and without bound: the sizes as asked, the windows a function of the seed alone."""
    seen = []
    for keys in ({"alpha": 0.1, "size_sigma": 1}, {"alpha": 0.1, "size_sigma": 1}, {"alpha": 0.5}, {"alpha": "uniform"}):
        with Run(dirichlet(**keys)) as run:
            run.run_both()
            sizes = shards(run)
            assert len(sizes) == 5 and min(sizes) >= LEAST, sizes
            assert (max(sizes) > 2 * min(sizes)) == ("size_sigma" in keys), (keys, sizes)
            losses = run.losses()
            assert sum(losses[-3:]) < sum(losses[:3]), losses
            seen.append((sum(sizes), windows(run, "central.ids"), windows(run, "heldout.ids")))
    assert seen[0] == seen[1]
    assert len({s[0] for s in seen}) == 1, "text was lost or doubled"
    assert len({s[1] for s in seen}) == 3 and len({s[2] for s in seen}) == 3


def test_labels_are_shared_out():
    """Four labels of a hundred records of 1.5 kB that use one letter each: at a small alpha a phone sees few letters."""
    letters = "abcd"
    with Run(dirichlet(phones=4, alpha=0.05, by="label")) as run:
        path = os.path.join(run.dir, "text.jsonl")
        with open(path, "w", encoding="utf-8") as f:
            for i in range(400):
                f.write(json.dumps({"text": f"{i} " + (letters[i % 4] * 7 + " ") * 187, "label": i % 4}) + "\n")
        run.experiment["data"]["path"] = path
        run.write_experiment(run.experiment)
        run.run_both()
        sizes = shards(run)
        assert min(sizes) >= LEAST and sum(sizes) < 600_000, sizes
        held = [set(line.split()) for line in windows(run, "heldout.ids").splitlines()]
        common = set.intersection(*held)
        assert any(len(h - common) < len(set.union(*held) - common) for h in held)


if __name__ == "__main__":
    run_tests(globals())
