#!/usr/bin/python3
"""Recorded links in real runs of two processes: what the phones send fits what the records say, and the result is the same."""
import os

from harness import ROOT, Run, Skip, experiment, phone_class, run_tests

RECORDED = os.path.join(os.path.dirname(ROOT), "shared", "data", "traces", "mahimahi")
OPPORTUNITY = 1500
STEPS = 6


def put(run, name, text):
    path = os.path.join(run.dir, name)
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    return path


def run_with(link_of, count=1, steps=STEPS):
    """link_of(run): the class's link; the run's end as the simulator tells it, its phones, its adapter."""
    with Run(experiment(fleet=[phone_class("traced", count)], run={"steps": steps})) as run:
        run.experiment["fleet"][0]["link"] = {"rtt_ms": 20, **link_of(run)}
        run.write_experiment(run.experiment)
        run.run_both()
        phones = run.events("sim", "phone")
        assert len(phones) == count and all(p["end"] == "done" and p["steps"] == steps for p in phones), phones
        return run.events("sim", "end")[0], phones, run.adapter()


def slow_up(run):
    """An opportunity every 10 ms up, 1.2 Mbit/s; every millisecond down."""
    return {"trace": {"up": put(run, "u", "".join(f"{t}\n" for t in range(10, 5001, 10))), "down": put(run, "d", "1\n")}}


def test_a_trace_limits_a_run_and_changes_no_result():
    end, phones, adapter = run_with(slow_up, count=2)
    fast, _, same = run_with(lambda run: {"up_mbps": 1000, "down_mbps": 1000}, count=2)
    assert adapter == same
    up = end["up"]
    assert up["delivered_bytes"] <= 2 * OPPORTUNITY * (end["wall_s"] / 0.01 + 1), end
    assert up["offered"] == up["delivered"] + up["under_way"] + sum(up["drops"].values()), up
    assert end["wall_s"] > 0.8 * 8 * up["delivered_bytes"] / 2 / 1.2e6 > fast["wall_s"] / 2, (end, fast)
    for p in phones:  # 1 W while it sends; a byte takes its share of 1.2 Mbit/s, IP and UDP headers (28 bytes of 1400) included
        airtime_s = p["energy"]["send"]
        assert 1.0 < airtime_s / (8 * p["bytes_up"] / 1.2e6) < 1.06, p


def test_half_of_the_time_is_an_outage():
    whole, _, adapter = run_with(slow_up)
    half, _, same = run_with(lambda run: {**slow_up(run), "outages": {"every_s": 0.4, "for_s": 0.2, "regular": True}})
    assert adapter == same
    assert half["up"]["delivered_bytes"] <= OPPORTUNITY * (half["wall_s"] / 0.02 + 21), half
    assert half["wall_s"] > 1.3 * whole["wall_s"], (half, whole)


def test_a_series_of_rates():
    rates = "time_s,up_kbps,down_mbps\n0,600,20\n0.5,2400,20\n1,0,20\n1.5,0,20\n"
    end, _, _ = run_with(lambda run: {"rates": {"file": put(run, "r.csv", rates), "up": "up_kbps", "phase": 0}})
    cycles = end["wall_s"] // 2 + 1
    assert end["up"]["delivered_bytes"] <= cycles * (0.5 * 600e3 + 0.5 * 2400e3) / 8, end
    assert end["wall_s"] > 1.5, end


def test_light_load_has_its_own_delay():
    """100 ms each way, and two packets before the record ends and the fast trace serves: every step takes its round trip."""
    trains = "0 100 0 0\n10000 100 0\n"
    def link(run):
        light = put(run, "light", trains)
        return {"trace": {"up": put(run, "u", "1\n"), "down": put(run, "d", "1\n"), "up_light": light, "down_light": light}}
    end, _, _ = run_with(link)
    assert end["wall_s"] > 0.21 * STEPS, end


def test_a_recorded_drive():
    up, down = (os.path.join(RECORDED, "ATT-LTE-driving." + way) for way in ("up", "down"))
    if not os.path.exists(up):
        raise Skip("recorded traces (../shared/data/traces)")
    start_s = 400
    end, _, _ = run_with(lambda run: {"trace": {"up": up, "down": down, "phase": start_s}})
    for way, file in (("up", up), ("down", down)):
        with open(file, encoding="ascii") as f:
            opportunities = sum(start_s * 1000 <= int(line) <= (start_s + end["wall_s"] + 0.5) * 1000 for line in f)
        assert 0 < end[way]["delivered_bytes"] <= OPPORTUNITY * opportunities, (way, end, opportunities)


run_tests(globals())
