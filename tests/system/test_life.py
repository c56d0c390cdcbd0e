#!/usr/bin/python3
"""Phones that come and go while the system trains: recorded, drawn, crashed and killed."""
import os

from harness import Run, experiment, one_line_error, phone_class, run_tests

# A tenth of a second a step, so that a run lasts long enough for something to happen.
SLOW = {"compute_gflops": 1.2, "link": {"up_mbps": 100, "down_mbps": 100, "rtt_ms": 5}}


def coming_and_going(fleet, **changes):
    training = {**experiment()["training"], "deterministic": False, "gang": {"quorum": 0.5, "deadline": 1}, **changes.pop("training", {})}
    return experiment(fleet=fleet, plan={"cut": 2}, training=training, **{"run": {"steps": 120}, **changes})


def lives(run, what):
    return [e for e in run.events("sim", "life") if e["what"] == what]


def accounted(run):
    """Every phone is in the end's account, with as many comings as goings, or one more."""
    phones = run.events("sim", "phone")
    assert len(phones) == sum(c["count"] for c in run.experiment["fleet"]), phones
    for p in phones:
        gone = p["departures"] + p["crashes"] + p["kills"]
        assert p["arrivals"] - gone in (0, 1), p
        assert p["end"] == ("done" if p["arrivals"] > gone else "away when the run ended"), p
        assert {k: p[k] for k in ("arrivals", "departures", "crashes", "kills")} == {
            name: sum(e["id"] == p["id"] for e in lives(run, what))
            for name, what in (("arrivals", "arrive"), ("departures", "depart"), ("crashes", "crash"), ("kills", "kill"))}, p
    return phones


def learns(run):
    losses = run.losses()
    tenth = len(losses) // 10
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    assert last < first - 0.1, (first, last)


def test_arrivals_departures_crashes_and_kills():
    """All at once, drawn: nobody hangs, nothing leaks, the loss falls."""
    fleet = [phone_class("steady", 1, **SLOW),
             phone_class("restless", 4, **SLOW, arrivals={"per_hour": 900, "stay_s": 5, "present": 0.5}),
             phone_class("frail", 2, **SLOW, crash={"per_hour": 300, "reboot_s": 2}),
             phone_class("crowded", 2, **SLOW, kill={"per_hour": 400, "restart_s": 1})]
    with Run(coming_and_going(fleet)) as run:
        run.run_both()
        assert len(run.losses()) == 120
        accounted(run)
        for what in ("arrive", "depart", "crash", "kill"):
            assert lives(run, what), what
        learns(run)
        end = run.events("edge", "end")[-1]
        ingest = end["ingest"]
        assert ingest["slots_in_use"] == 0, ingest
        assert ingest["granted"] - ingest["ready"] - ingest["grants_expired"] - ingest["grants_cancelled"] == 0, ingest
        assert min(e["devices"] for e in run.events("edge", "step")) < 9
        with open(os.path.join(run.dir, "central.phones"), encoding="utf-8") as f:
            assert len({line.strip() for line in f}) >= 5


def test_a_trace_is_followed_and_phones_may_be_away_at_the_end():
    fleet = [phone_class("steady", 2, **SLOW), phone_class("traced", 3, **SLOW)]
    what = coming_and_going(fleet, run={"steps": 100})
    with Run(what) as run:
        trace = os.path.join(run.dir, "who.csv")
        with open(trace, "w", encoding="utf-8") as f:
            f.write("time_s,device,event\n0,0,arrive\n1,1,arrive\n8,1,depart\n9,0,depart\n10,1,arrive\n10000,2,arrive\n")
        what["fleet"][1]["arrivals"] = {"trace": trace}
        run.write_experiment(what)
        run.run_both()
        phones = accounted(run)
        assert [p["end"] for p in phones] == ["done", "done", "away when the run ended", "done", "away when the run ended"]
        assert [p["arrivals"] for p in phones] == [1, 1, 1, 2, 0]
        assert [e["at_s"] for e in lives(run, "arrive") if e["id"] == "device-00003"] == [1, 10]
        assert phones[4]["steps"] == 0 and phones[4]["energy_j"] == 0
        goodbyes = [e for e in run.events("edge", "leave") if e["device"] == "device-00002"]
        assert "departs" in goodbyes[0]["why"], goodbyes


def test_training_may_end_while_nobody_is_there():
    """The last phone leaves before the time is up; who comes back is evaluated, and the run ends."""
    what = coming_and_going([phone_class("traced", 2, **SLOW)], run={"seconds": 4})
    with Run(what) as run:
        trace = os.path.join(run.dir, "who.csv")
        with open(trace, "w", encoding="utf-8") as f:
            f.write("0,0,arrive\n0,1,arrive\n3.9,0,depart\n4,1,depart\n14,0,arrive\n15,1,arrive\n")
        what["fleet"][0]["arrivals"] = {"trace": trace}
        run.write_experiment(what)
        run.run_both()
        accounted(run)
        assert "done" in {p["end"] for p in run.events("sim", "phone")}
        assert run.events("edge", "eval")


def test_a_crash_is_silent_and_a_kill_is_not():
    """The edge learns of a kill at once; of a crash when the phone is back (or from its silence)."""
    fleet = [phone_class("steady", 2, **SLOW), phone_class("frail", 1, **SLOW, crash={"per_hour": 720, "reboot_s": 3}),
             phone_class("killed", 1, **SLOW, kill={"per_hour": 720, "restart_s": 3})]
    with Run(coming_and_going(fleet, run={"steps": 60})) as run:
        run.run_both()
        accounted(run)
        for who, kind in (("device-00002", "crash"), ("device-00003", "kill")):
            gone = lives(run, kind)[0]["t"]
            back = min(e["t"] for e in lives(run, "arrive") if e["id"] == who and e["t"] > gone)
            left = min(e["t"] for e in run.events("edge", "leave") if e["device"] == who and e["t"] > gone - 0.1)
            assert (left < back) == (kind == "kill"), (kind, gone, left, back)


def test_a_night_is_slept_through_in_seconds():
    """Charging and idle: an hour is a second; phones work at night alone, and are charged."""
    night = {"availability": {"start_h": 21, "time_scale": 3600, "charging": {"begin_h": 23, "hours": 8, "spread_h": 1, "jitter_h": 0, "probability": 1},
                              "idle": {"begin_h": 23.5, "hours": 7, "spread_h": 1, "jitter_h": 0, "probability": 1}}}
    fleet = [phone_class("night", 4, **SLOW, battery_start=0.5, **night)]
    with Run(coming_and_going(fleet, run={"seconds": 4})) as run:
        run.run_both()
        accounted(run)
        for e in lives(run, "arrive"):
            before = [x["what"] for x in run.events("sim", "life") if x["id"] == e["id"] and x["at_s"] <= e["at_s"]]
            assert before.count("plug") > before.count("unplug") and before.count("idle_begin") > before.count("idle_end"), before
        assert lives(run, "arrive")


def test_a_phone_at_its_battery_floor_rests_until_it_has_charged():
    """A battery of 14 J, 9 W while awake, 4 W from the charger: it is drained, leaves, charges, and comes back."""
    hours = {"policy": "always", "start_h": 0, "charger_w": 4, "charging": {"begin_h": 0, "hours": 24, "spread_h": 0, "jitter_h": 0, "probability": 1}}
    fleet = [phone_class("steady", 1, **SLOW), phone_class("small", 2, **SLOW, battery_mah=1, battery_floor=0.3, battery_start=0.5, idle_w=9, availability=hours)]
    with Run(coming_and_going(fleet, run={"seconds": 12})) as run:
        run.run_both()
        phones = run.events("sim", "phone")
        assert phones[0]["rests"] == 0
        for p in phones[1:]:
            low, back = (sum(e["id"] == p["id"] for e in lives(run, what)) for what in ("battery_low", "battery_recovered"))
            assert low == p["rests"] >= 1 and low - back in (0, 1), p
            assert p["end"] in ("done", "away when the run ended") and p["battery"] > 0.2, p
        assert lives(run, "battery_recovered")


def test_virtual_time_sees_the_same_lives():
    """Byte for byte the same from run to run, and the schedule that a run in real time follows."""
    fleet = [phone_class("steady", 2, **SLOW),
             phone_class("restless", 3, **SLOW, arrivals={"per_hour": 900, "stay_s": 5, "present": 0.5}),
             phone_class("frail", 2, **SLOW, crash={"per_hour": 300, "reboot_s": 2}, kill={"per_hour": 300, "restart_s": 1})]
    what = coming_and_going(fleet)
    logs, schedules = [], []
    for virtual in (True, True, False):
        with Run(what) as run:
            if virtual:
                sim = run.start_sim("--virtual")
                assert run.finish(sim) == [0], run.output(sim)[-2000:]
                with open(os.path.join(run.dir, "events.jsonl"), "rb") as f:
                    logs.append(f.read())
            else:
                run.run_both()
            accounted(run)
            schedules.append([(e["at_s"], e["id"], e["what"]) for e in run.events("sim", "life")])
    assert logs[0] == logs[1] and b'"life"' in logs[0]
    until = min(s[-1][0] for s in schedules)
    first, second, real = (sorted(e for e in s if e[0] < until) for s in schedules)
    assert first == second == real and len(real) > 10, (len(first), len(real), until)


def test_deterministic_runs_refuse_it():
    fleet = [phone_class("a", 1), phone_class("b", 1, kill={"per_hour": 1})]
    with Run(experiment(fleet=fleet)) as run:
        for start in (run.start_edge, run.start_sim):
            process = start()
            run.finish(process, timeout=60)
            assert process.returncode == 1
            assert "training.deterministic" in one_line_error(run.output(process)), run.output(process)


if __name__ == "__main__":
    run_tests(globals())
