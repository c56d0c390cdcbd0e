#!/usr/bin/python3
"""A whole training run over every back end of the data plane that this host can run. What was trained is compared with training in one
process (rules L6): a back end changes how bytes travel, and nothing else."""
import subprocess
import time

from harness import EDGE, SIM, Run, Skip, central, experiment, free_port, one_line_error, phone_class, run_tests
from netns import ADDRESS, ADDRESS6, INTERFACE, Veth

STEPS = 20
FLEET = [phone_class("long", seq=48), phone_class("middle", seq=32), phone_class("short", seq=17)]
DOWN_S = 2
EXPECTED_DROPS = {"unknown_session", "not_udp", "not_ours"}  # the last acknowledgements, after their sessions have ended; what AF_PACKET sees of the kernel's traffic


def make(steps=STEPS, control=None, **data):
    """Three phones; SGD and averaging after each step, so that the sum of all is central training (rules L4)."""
    training = experiment()["training"]
    training["optimizer"] = {"kind": "sgd", "lr": 0.5}
    training["aggregate_every"] = 1
    what = experiment(fleet=FLEET, training=training, plan={"cut": [2, 5, 3]}, run={"steps": steps})
    what["edge"]["data"].update(data)
    if control:
        what["edge"]["control"] = control
    return what


def check(run, steps=STEPS, lossless=True):
    ours, theirs = run.losses(), central(run)
    assert len(ours) == steps
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))
    assert worst <= 1e-6, f"losses differ from central training by {worst:.2g}"
    assert abs(ours[0] - ours[-1]) > 1e-3, "nothing was learnt: the comparison proves nothing"
    end = run.events("edge", "end")[0]
    drops = {name: n for name, n in end["drops"].items() if n and name not in EXPECTED_DROPS}
    assert not (lossless and drops), drops
    return end


def check_calls(run, end):
    """No system call per packet (the end event's counts), and no EAL at all."""
    assert run.events("edge", "start")[0]["eal_args"] == ""
    assert run.events("sim", "start")[0]["eal_args"] == ""
    print(f"   {end['packets_rx']} packets in, {end['packets_tx']} out, {end['kernel_calls']} system calls with those to sleep, "
          f"{end['lcore']['sleeps']} sleeps")
    working = end["kernel_calls"] - end["lcore"]["sleeps"]
    assert working < (end["packets_rx"] + end["packets_tx"]) / 2, end


def whole_run(what, before=None):
    with Run(what) as run:
        run.before = before or {}
        run.run_both()
        end = check(run)
        if what["edge"]["data"]["backend"] == "uring_udp":
            check_calls(run, end)


def between(net, **data):
    """The edge in namespace a, the phones in b; what runs where."""
    what = make(control=f"{ADDRESS['a']}:{free_port()}", **data)
    return what, {EDGE: net.inside("a"), SIM: net.inside("b")}


def test_memif_with_busy_poll():
    whole_run(make(backend="memif", poll="busy"))


def test_uring_udp_on_loopback():
    whole_run(make(backend="uring_udp", address=f"127.0.0.1:{free_port()}"))


def test_uring_udp_on_loopback_with_a_port_for_each_phone():
    whole_run(make(backend="uring_udp", address=f"127.0.0.1:{free_port()}", fleet_address="127.0.0.1:20500"))


def test_uring_udp_on_loopback_with_busy_poll_and_two_lcores():
    whole_run(make(backend="uring_udp", address="127.0.0.1:20700", poll="busy", lcores=2))


def test_uring_udp_over_ipv6():
    whole_run(make(backend="uring_udp", address=f"[::1]:{free_port()}"))


def test_uring_udp_between_two_namespaces():
    with Veth() as net:
        whole_run(*between(net, backend="uring_udp", address=f"{ADDRESS['a']}:4433"))


def test_uring_udp_between_two_namespaces_over_ipv6():
    with Veth() as net:
        whole_run(*between(net, backend="uring_udp", address=f"[{ADDRESS6['a']}]:4433"))


def test_uring_udp_link_down_and_up():
    link_down_and_up(f"waiting for {INTERFACE['a']} to come up", backend="uring_udp")


def between_ports(backend, mtu=1500, address=ADDRESS["a"], fleet_backend=None, **data):
    """Ports of DPDK on both ends; the fleet's phones have addresses that no kernel knows."""
    with Veth(mtu=mtu) as net:
        whole_run(*between(net, backend=f"{backend}:va", fleet_backend=f"{fleet_backend or backend}:vb", address=f"{address}:4433",
                           mtu=mtu, **data))


def test_af_xdp():
    between_ports("af_xdp")


def test_af_xdp_over_ipv6_with_busy_poll():
    between_ports("af_xdp", address=f"[{ADDRESS6['a']}]", poll="busy")


def test_af_xdp_largest_frames_and_two_lcores():
    between_ports("af_xdp", mtu=3400, lcores=2, memory_mib=256)


def test_af_packet():
    between_ports("af_packet")


def test_af_packet_jumbo_frames_over_ipv6():
    between_ports("af_packet", mtu=9000, memory_mib=512, address=f"[{ADDRESS6['a']}]")


def test_memif_jumbo_frames():
    whole_run(make(backend="memif", mtu=9000, memory_mib=512))


def test_memif_over_ipv6():
    whole_run(make(backend="memif", address="[fd77::ffff]:4433"))


def test_af_xdp_with_phones_over_uring_udp():
    """The kernel's sockets on the phones' side, as on a laptop."""
    with Veth() as net:
        whole_run(*between(net, backend="af_xdp:va", fleet_backend="uring_udp", address=f"{ADDRESS['a']}:4433"))


def ports_of_their_own(address):
    """Two ports without a kernel below, as two NICs have: they find each other by ARP or neighbour discovery, over a bridge."""
    with Veth() as net:
        try:
            net.ip("a", "link", "add", "br0", "type", "bridge")
        except subprocess.CalledProcessError:
            raise Skip("a kernel with bridges") from None
        net.ip("a", "link", "set", "br0", "up")
        what = make(backend="tap:ta", fleet_backend="tap:tb", address=address)
        with Run(what) as run:
            run.before = {EDGE: net.inside("a"), SIM: net.inside("a")}
            sim, edge = run.start_sim(), run.start_edge()
            for name, mac, program in (("ta", "02:00:00:00:0a:01", edge), ("tb", "02:00:00:00:0b:01", sim)):
                run.wait_for(lambda p=program: "data lcore" in run.output(p), name, processes=(sim, edge))
                # The bridge keeps what is for its interfaces' own addresses, and the driver gives a tap the port's.
                net.ip("a", "link", "set", name, "address", mac)
                net.ip("a", "link", "set", name, "master", "br0", "up")
            assert run.finish(edge, sim, timeout=60) == [0, 0], run.output(edge) + run.output(sim)
            check(run, lossless=False)
            assert run.events("edge", "end")[0]["drops"]["answered"] > 0, "nobody asked"


def test_tap_on_both_ends_by_arp():
    ports_of_their_own("10.77.0.1:4433")


def test_tap_on_both_ends_by_neighbour_discovery():
    ports_of_their_own("[fd77::ffff]:4433")


def link_down_and_up(says, **data):
    """Both programs survive it and say so; a veth without its other end has no carrier, so both see it."""
    with Veth() as net:
        what, before = between(net, address=f"{ADDRESS['a']}:4433", **data)
        what["run"]["steps"] = 5 * STEPS
        with Run(what) as run:
            run.before = before
            sim, edge = run.start_sim(), run.start_edge()
            run.wait_for(lambda: len(run.losses()) >= STEPS, f"{STEPS} steps", processes=(sim, edge))
            net.ip("a", "link", "set", INTERFACE["a"], "down")
            time.sleep(DOWN_S)
            before_up = len(run.losses())
            assert before_up < 5 * STEPS, "the run ended before its link did"
            net.ip("a", "link", "set", INTERFACE["a"], "up")
            assert run.finish(edge, sim) == [0, 0], run.output(edge) + run.output(sim)
            end = check(run, steps=5 * STEPS, lossless=False)
            assert says in run.output(edge)
            for program, name in ((edge, "edge"), (sim, "sim")):
                assert [e["up"] for e in run.events(name, "link")] == [False, True], name
                assert "the data port is up again" in run.output(program), name
            print(f"   {before_up} steps before the link was up again, {end['retransmits']} retransmissions in all")


def test_af_xdp_link_down_and_up():
    link_down_and_up(f"sudo ip link set dev {INTERFACE['a']} up", backend="af_xdp:va", fleet_backend="af_xdp:vb")


def test_af_packet_link_down_and_up():
    link_down_and_up(f"sudo ip link set dev {INTERFACE['a']} up", backend="af_packet:va", fleet_backend="af_packet:vb")


def refused(net, says, **data):
    what, before = between(net, **data)
    with Run(what) as run:
        run.before = before
        edge = run.start_edge()
        assert run.finish(edge) == [1]
        assert says in one_line_error(run.output(edge)), run.output(edge)


def test_ports_refused_with_a_cure():
    with Veth() as net:
        refused(net, "sudo ip address add 10.99.0.1/24 dev va", backend="af_xdp:va", address="10.99.0.1:4433")
        refused(net, "no network interface", backend="af_packet:vx", address=f"{ADDRESS['a']}:4433")
        refused(net, "sudo ip link set dev va mtu 9000", backend="af_packet:va", address=f"{ADDRESS['a']}:4433", mtu=9000)


run_tests(globals())
