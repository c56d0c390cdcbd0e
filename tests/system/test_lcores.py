#!/usr/bin/python3
"""Many data lcores (rules T7): spreading devices over them changes no result, and every packet ends at its own."""
import os

from harness import Run, experiment, phone_class, run_tests

FLEET = [phone_class("long", seq=48), phone_class("middle", 2, seq=32), phone_class("short", 2, seq=17)]


def spread(lcores, steps=12, **data):
    """A whole deterministic run; what it computed, and what its lcores say of themselves."""
    what = experiment(fleet=FLEET, plan={"cut": [2, 5, 3]}, run={"steps": steps})
    what["edge"]["data"].update(lcores=lcores, **data)
    what["edge"]["slots"] = 5  # as many as devices: shares are rounded up, so that no gang waits for ever (rules T2)
    with Run(what) as run:
        run.run_both()
        with open(os.path.join(run.dir, "adapters", "global", "adapter_model.safetensors"), "rb") as f:
            result = run.losses(), f.read()
        joins = [e["lcore"] for e in run.events("edge", "join")]
        return result, run.events("edge", "end")[-1], joins


def check_accounts(end, lcores):
    rows = end["lcores"]
    assert [r["lcore"] for r in rows] == list(range(lcores))
    assert all(r["packets_rx"] > 0 and r["packets_tx"] > 0 and r["ready"] > 0 and 0 < r["busy"] <= 1 for r in rows), rows
    total = {key: sum(r[key] for r in rows) for key in rows[0]}
    assert total["passed_on"] == total["passed_in"], rows
    assert total["packets_rx"] == total["steered"] + total["passed_in"] if lcores > 1 else total["steered"] == 0, rows
    assert total["steer_full"] == end["drops"]["steer_full"] == 0, rows
    assert end["lcore"]["packets_rx"] == total["packets_rx"] and end["ingest"]["ready"] == total["ready"]
    return total


def test_a_session_more_than_one_lcore_away_gives_the_same_bytes():
    one, end, joins = spread(1)
    check_accounts(end, 1)
    assert set(joins) == {0}
    for lcores in (2, 3):
        many, end, joins = spread(lcores)
        check_accounts(end, lcores)
        assert sorted(joins.count(i) for i in range(lcores)) == sorted((5 + i) // lcores for i in range(lcores)), joins
        assert many[0] == one[0], f"{lcores} lcores: losses differ"
        assert many[1] == one[1], f"{lcores} lcores: adapters differ"


run_tests(globals())
