#!/usr/bin/python3
"""Many data lcores (rules T7): spreading devices over them changes no result, and every packet ends at its own."""

from harness import EDGE, SIM, Run, experiment, free_port, phone_class, run_tests
from netns import ADDRESS, INTERFACE, Veth

FLEET = [phone_class("long", seq=48), phone_class("middle", 2, seq=32), phone_class("short", 2, seq=17)]


def spread(lcores, steps=12, **data):
    """A whole deterministic run; what it computed, and what its lcores say of themselves."""
    what = experiment(fleet=FLEET, plan={"cut": [2, 5, 3]}, run={"steps": steps})
    what["edge"]["data"].update(lcores=lcores, **data)
    what["edge"]["slots"] = 5  # as many as devices: shares are rounded up, so that no gang waits for ever (rules T2)
    with Run(what) as run:
        run.run_both()
        result = run.losses(), run.adapter()
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


def test_any_number_of_lcores_gives_the_same_bytes():
    one, end, joins = spread(1)
    check_accounts(end, 1)
    assert set(joins) == {0}
    for lcores, queues in ((2, 2), (2, 1), (3, 2)):
        many, end, joins = spread(lcores, queues=queues)
        what = f"{lcores} lcores by {queues} queues"
        total = check_accounts(end, lcores)
        assert sorted(joins.count(i) for i in range(lcores)) == sorted((5 + i) // lcores for i in range(lcores)), joins
        if queues == lcores:  # the sender puts every packet on its lcore's ring
            assert total["passed_on"] == total["tx_passed"] == 0, end["lcores"]
        else:  # those without a queue get and send everything by another
            for r in end["lcores"][queues:]:
                assert r["steered"] == 0 and r["passed_in"] == r["packets_rx"] and r["tx_passed"] == r["packets_tx"], r
        assert many[0] == one[0], f"{what}: losses differ"
        assert many[1] == one[1], f"{what}: adapters differ"


def test_a_killed_edge_resumes_on_many_lcores():
    """Deterministic, killed in the middle and restarted: the adapter is that of a run that nobody disturbed, on one lcore."""
    images = []
    for lcores, killed in ((1, False), (3, True)):
        fleet = [phone_class("a", 2, compute_gflops=0.4), phone_class("b", 2, compute_gflops=0.4)]
        what = experiment(fleet=fleet, plan={"cut": [2, 4]}, run={"steps": 20})
        what["training"]["aggregate_every"] = 2
        what["edge"]["data"].update(lcores=lcores, queues=min(lcores, 2))
        what["edge"]["slots"] = 4
        with Run(what) as run:
            sim, edge = run.start_sim(), run.start_edge()
            if killed:
                run.wait_for(lambda: len(run.events("edge", "aggregate")) >= 3, "three aggregations", processes=(sim, edge))
                edge = run.kill_and_restart(edge)
            codes = run.finish(edge, sim)
            assert codes == [0, 0], f"{codes}\n{run.output(edge)[-3000:]}\n{run.output(sim)[-3000:]}"
            images.append(run.adapter())
            if killed:
                assert run.events("edge", "start")[-1]["incarnation"] == 2
    assert images[0] == images[1]


def test_af_packet_spreads_by_its_own_lights_and_every_packet_finds_its_lcore():
    """The kernel's fanout hashes addresses and ports: it knows nothing of sessions. Phones by io_uring, in a namespace of their own."""
    one, _, _ = spread(1)
    what = experiment(fleet=FLEET, plan={"cut": [2, 5, 3]}, run={"steps": 12})
    what["edge"]["slots"] = 5
    with Veth() as net:
        net.ip("b", "link", "set", INTERFACE["b"], "gso_max_segs", "1")  # as a NIC would: AF_PACKET takes packets, not runs of them
        what["edge"]["control"] = f"{ADDRESS['a']}:{free_port()}"
        what["edge"]["data"].update(lcores=2, backend=f"af_packet:{INTERFACE['a']}", fleet_backend="uring_udp",
                                    address=f"{ADDRESS['a']}:4433")
        with Run(what) as run:
            run.before = {EDGE: net.inside("a"), SIM: net.inside("b")}
            run.run_both()
            assert (run.losses(), run.adapter()) == one, "another result than by memif on one lcore"
            total = check_accounts(run.events("edge", "end")[-1], 2)
            print(f"   {total['steered']:.0f} packets came by their lcore's queue, {total['passed_on']:.0f} were passed on")
            assert run.events("edge", "start")[0]["queues"] == 2


run_tests(globals())
