#!/usr/bin/python3
"""Every verb of sluice-bench for a fraction of a second: its JSON is whole, and every packet is accounted for. No figure is judged."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BENCH = os.path.join(os.environ.get("SLUICE_BUILD", os.path.join(ROOT, "build")), "tests", "bench", "sluice-bench")
TIMEOUT_S = 240
OK, USAGE, SKIPPED, STOPPED = 0, 2, 77, 130

MACHINE = ["cpu", "cpus_online", "tsc_hz", "governor", "huge_pages", "isolated_cpus", "kernel", "load_average"]
EVERY = ["verb", "command", "date", "warnings", "machine", "noise", "status"]
STAGES = ["receive", "check", "place", "open", "mark", "acknowledge", "recycle_buffers", "hand_off_and_slots", "send"]


def bench(*args, expect=OK):
    done = subprocess.run([BENCH, *args], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert expect is None or done.returncode == expect, f"{args}: status {done.returncode}, not {expect}: {done.stderr.strip()}"
    return done


def result(*args):
    j = json.loads(bench(*args, "--json").stdout)
    has(j, EVERY)
    has(j["machine"], MACHINE)
    assert j["command"].startswith("sluice-bench " + args[0]), j["command"]
    return j


def has(j, names):
    missing = [n for n in names if n not in j]
    assert not missing, f"no {', '.join(missing)} in {sorted(j)}"


def conserved(j):
    assert j["uncounted"] == 0, j
    assert j["offered"] == j["delivered"] + sum(j["drops"].values()), j
    assert j["lost"] == sum(j["drops"].values()), j


def ingest__all_fields_and_nothing_uncounted():
    j = result("ingest", "--seconds", "0.4", "--rounds", "2", "--peer-seconds", "1")
    has(j, ["gbps", "mpps", "cycles_per_packet", "stages", "gbps_per_core", "bare_loop_cycles_per_packet", "bare_loop_gbps",
            "receive_only_cycles_per_packet", "aead_only_cycles_per_packet", "aead_only_gbps", "full_over_bare", "lost", "drops",
            "targets", "sender", "rounds", "load", "peers"])
    has(j["stages"], STAGES)
    peers = j["peers"]
    if "skipped" in peers:
        print("SKIP", peers["skipped"], flush=True)
    else:
        assert "failed" not in peers, peers
        for name in ["kernel_udp_recvmmsg", "kernel_udp_gso_gro", "tcp_tls13_openssl", "sluice_af_xdp"]:
            assert peers[name]["gbps"] > 0 and peers[name]["wrong"] == 0, peers
    conserved(j)
    assert j["messages"] > 0 and j["messages_wrong"] == 0, j
    assert j["gbps"] > 0 and j["cycles_per_packet"] > 0 and j["bare_loop_gbps"] > 0 and j["aead_only_gbps"] > 0, j


def ingest__jumbo_frames_and_many_sessions():
    j = result("ingest", "--no-peers", "--seconds", "0.2", "--rounds", "1", "--payload", "8900", "--sessions", "200")
    assert j["load"]["payload_bytes"] == 8896 and j["load"]["mtu"] == 9000 and j["load"]["sessions"] == 200, j["load"]
    conserved(j)
    assert j["messages"] > 0 and j["messages_wrong"] == 0, j


def ingest__every_codec():
    for codec in ["f32", "int8", "int8+lz4"]:
        j = result("ingest", "--no-peers", "--codec", codec, "--seconds", "0.2", "--rounds", "1")
        conserved(j)
        assert j["messages"] > 0 and j["messages_wrong"] == 0 and j["load"]["codec"] == codec, j


def ingest__two_data_lcores():
    j = result("ingest", "--no-peers", "--cores", "2", "--seconds", "0.2", "--rounds", "1")
    conserved(j)
    assert j["messages"] > 0 and j["messages_wrong"] == 0 and j["load"]["cores"] == 2, j


def ingest__over_veth():
    for backend in ["af_packet", "af_xdp", "uring_udp", "uring_udp_plain"]:
        done = subprocess.run([BENCH, "ingest", "--backend", backend, "--no-peers", "--seconds", "0.2", "--rounds", "1", "--json"], capture_output=True,
                              text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode == SKIPPED:
            print("SKIP", done.stderr.strip(), flush=True)
            continue
        assert done.returncode == OK, f"{backend}: {done.stderr}"
        j = json.loads(done.stdout)
        conserved(j)
        assert j["messages"] > 0 and j["messages_wrong"] == 0, j


def handoff__all_fields():
    j = result("handoff", "--seconds", "0.2")
    has(j, ["p50_ns", "p99_ns", "to_trainer", "to_lcore", "round_trip", "overcommitted", "target", "threads"])
    assert j["handoffs"] > 0 and j["wrong_handles"] == 0, j
    assert j["round_trip"]["count"] == j["handoffs"], j


def path__every_lcore():
    j = result("path", "--messages", "20", "--lcores", "2")
    assert len(j["alone"]) == 1 and len(j["together"]) == 2, j
    for lcore in j["alone"] + j["together"]:
        assert lcore["messages"] == 20 and lcore["packets"] >= 20 * 142 and lcore["received_to_marked_slot"]["median"] > 0, lcore


def overload__nothing_uncounted():
    j = result("overload", "--seconds", "1.5")
    has(j, ["steps", "overload", "peak_pps", "taken_over_peak", "memory_growth_bytes", "slots", "targets", "slow_cycles_per_packet"])
    conserved(j)
    assert j["delivered"] > 0 and j["drops"].get("sender_tx_full", 0) > 0, j
    s = j["slots"]
    assert s["granted"] == s["ready"] + s["expired"] + s["cancelled"] + s["outstanding"], s


def percentiles(j):
    has(j, ["count", "p50_ns", "p99_ns", "p999_ns"])
    assert j["p50_ns"] <= j["p99_ns"] <= j["p999_ns"], j


def counted(j):
    assert j["messages_planned"] == j["messages_done"] + j["messages_lost"] + j["messages_left"], j
    assert j["messages_done"] > 0, j


def latency__every_load_and_every_message():
    j = result("latency", "--seconds", "0.1", "--rounds", "1", "--key-update-packets", "50")
    has(j, ["ratio", "target", "valid", "invalid_rounds", "gate", "peers", "through_trainer", "low_load_messages_per_s"])
    percentiles(j)
    percentiles(j["bare"])
    for size in j["one_fragment"], j["messages_192k"]:
        assert [x["load"] for x in size["loads"]] == [0.1, 0.5, 0.8, 0.95], size
        assert size["capacity_messages_per_s"] > 0, size
        for x in size["loads"]:
            has(x, ["generator_lag", "since_sent", "valid"])
            counted(x["counted"])
    counted(j["last_round"]["counted"])
    assert j["key_update"]["updates"] > 0, j["key_update"]
    percentiles(j["key_update"]["with"])
    for name in "kernel_udp_spin", "kernel_udp_block", "uring_udp":
        if "skipped" not in j["peers"][name]:
            percentiles(j["peers"][name])


def scale__every_session_and_every_message():
    j = result("scale", "--sessions", "30", "--rounds", "1", "--seconds", "0.1", "--heartbeat-ms", "200")
    has(j, ["levels", "in_turn", "throughput_of_all_over_10", "memory", "joins", "join_time", "heartbeat_lateness", "target"])
    c = j["counted"]
    assert c["devices_joined"] == 30 and c["devices_refused"] == 0, c
    assert c["messages_asked"] == c["messages_done"] + c["messages_lost"] and c["messages_done"] > 0 and c["messages_wrong"] == 0, c
    assert [x["sessions"] for x in j["levels"]] == [1, 1, 10, 10, 30, 30], j["levels"]
    assert j["heartbeat_lateness"]["heard"] > 0, j["heartbeat_lateness"]
    assert 0 < j["memory"]["data_plane_session_bytes"] <= 4096, j["memory"]


def reject__every_packet_under_its_name():
    j = result("reject", "--seconds", "0.05")
    for kind, name in ("random", "version"), ("unknown_session", "unknown_session"), ("replayed", "replayed"), \
            ("off_grid", "off_grid"), ("forged", "bad_tag"):
        x = j[kind]
        assert sum(x["drops"].values()) == x["packets"] > 0 and x["drops"][name] > 0, x
        assert x["cycles"]["n"] > 0 and x["cycles"]["median"] > 0, x


def products__every_matrix_of_a_shape():
    j = result("products", "--precision", "f32", "--rows", "40", "--segments", "3", "--seconds", "0.01")
    assert set(j["matrices"]) == {"c_attn", "c_proj", "c_fc", "mlp.c_proj", "head"}
    for m in j["matrices"].values():
        assert m["forward_gflops"] > 0 and m["backward_gflops"] > 0 and m["openblas_f32_gflops"] > 0
    assert j["matrices"]["c_fc"]["many_over_one_adapter"] > 0 and "lora_of_frozen" not in j["matrices"]["head"]


def swap__adapters_come_back():
    j = result("swap", "--seconds", "0.5", "--devices", "16", "--resident", "8", "--compute-ms", "1", "--layers", "3", "--width", "64")
    assert j["loads"] > 16 and j["evictions"] > 16 and j["gangs"] > 4 and 0 <= j["gangs_waited"] <= 1, j
    assert j["file_bytes"] <= 16 * j["record_bytes"] and j["load_ms"] > 0, j


def wake__both_ports():
    j = result("wake", "--seconds", "0.5", "--idle-seconds", "0.2")
    for name in "memif", "uring_udp":
        x = j[name]
        if "skipped" not in x:
            percentiles(x)
            assert 0 <= x["idle_cpu"] < 2 and x["messages_done"] > 0, x


def link__every_queue_as_its_model():
    for queue in "droptail", "codel", "pie", "none":
        j = result("link", "--rate", "20", "--queue", queue, "--seconds", "0.6")
        has(j, ["delivered_ratio", "exact_of_capacity", "timing_error_ms", "queue_delay_ms", "queue_delay_difference_ms", "overcommitted", "target"])
        # The fate of a packet follows from the arrivals alone, however late the host is.
        assert j["different_fate"] == 0 and j["delivered_packets"] > 300, j
        assert j["no_buffer"] == 0 and j["timing_error_ms"]["n"] > 300, j
    trace = os.path.join(tempfile.mkdtemp(), "trace")
    with open(trace, "w", encoding="ascii") as f:
        f.write("3\n3\n4\n40\n41\n100\n")
    j = result("link", "--trace", trace, "--seconds", "1", "--queue-packets", "30")
    assert j["different_fate"] == 0 and j["exact_of_capacity"] > 0.9, j
    for text, says in ("5\n4\n", ":2: earlier"), ("", "no opportunity"), ("7\nx\n", ":2: not a time"):
        with open(trace, "w", encoding="ascii") as f:
            f.write(text)
        err = bench("link", "--trace", trace, expect=1).stderr
        assert says in err, err


def emulator__accounts_for_every_packet():
    for service in "rate", "trace", "series":
        j = result("emulator", "--service", service, "--links", "50", "--train", "400", "--seconds", "0.3")
        has(j, ["ns_per_packet", "packets_per_s", "share_of_core"])
        assert j["offered"] == j["delivered"] + j["dropped"] + j["under_way"] and j["delivered"] > 1000 and j["dropped"] > 1000, j


def radio__accounts_for_every_packet():
    for mobility in "static", "waypoint":
        j = result("radio", "--mobility", mobility, "--phones", "200", "--side", "3", "--mbps", "200", "--seconds", "3")
        has(j, ["setup_s", "share_of_core", "ns_per_packet", "ns_per_phone_tti", "backlogged", "handovers", "covered"])
        assert j["offered"] == j["delivered"] + j["under_way"] and j["delivered"] > 10000 and j["covered"] > 150, j


def plan__no_comparison_is_better():
    for objective, users, servers in ("printed", "20", "4"), ("physical", "4", "1"):
        j = result("plan", "--objective", objective, "--users", users, "--servers", servers, "--seeds", "2", "--setting", "open")
        has(j, ["ms", "ms_most", "gap", "alternating_time"])
        methods = [k for k in j if k.endswith("_objective")]
        assert len(methods) == 7 and j["scenarios"] == 2 and j["violation"] <= 1e-9, j
        assert all(j[k] is None or j[k] >= 1 - 1e-6 for k in methods), j  # None: infinite, all layers local


def link__an_experiments_phone():
    file = os.path.join(tempfile.mkdtemp(), "x.yaml")
    with open(file, "w", encoding="ascii") as f:
        f.write("model: {path: m}\ndata: {path: d}\nfleet:\n - {class: a, count: 2, preset: mid, rrc: wifi, link: {up_mbps: 5, down_mbps: 20, rtt_ms: 30, "
                "queue: {kind: codel}, loss: {good_to_bad: 0.01, bad_to_good: 0.3, bad: 0.8}, jitter_ms: 2, reorder: 0.02}}\nplan: {cut: 2}\nrun: {steps: 5}\n")
    j = result("link", "--radio", file, "--seconds", "0.6")
    assert j["different_fate"] == 0 and j["delivered_packets"] > 300 and "exact_of_capacity" not in j, j
    assert "alone" in bench("link", "--radio", file, "--rate", "5", expect=1).stderr


def link__kernel_tcp_comes_to_the_rate():
    done = bench("link", "--rate", "20", "--tcp", "--seconds", "4", "--json", expect=None)
    if done.returncode == SKIPPED:
        print("SKIP", done.stderr.strip(), flush=True)
        return
    j = json.loads(done.stdout)
    assert j["status"] == OK, j.get("error")
    for name, payload in ("kernel_tcp", 1448 / 1500), ("sluice", 1408 / 1484):
        x = j[name]
        has(x, ["goodput_mbps", "smoothed_rtt_ms", "queue_ms", "sent_again", "links", "emulator"])
        assert x["goodput_of_capacity"] < 1.02 * payload, x
        if x["emulator"]["overcommitted"]:
            print(f"SKIP {name}'s goodput is not judged: the emulator waited for a CPU", flush=True)
        else:
            assert x["goodput_of_capacity"] > 0.95 * payload, x


def flop_per_token(blocks, d, d_ff, vocab, seq, rank, weights):
    """The formula of docs/measuring.md, for GPT-2's shapes; weights: (in, out) of a block's linear layers."""
    linear = sum(4 * i * o for i, o in weights)
    lora = sum(6 * rank * (i + o) for i, o in weights)
    return blocks * (linear + lora + 12 * d * (seq + 1) / 2) + 4 * d * vocab


def train__counts_the_mathematics():
    j = result("train", "--layers", "1", "--batch", "1", "--seq", "16", "--steps", "2")
    has(j, ["tokens_per_s", "gflops", "fraction_of_gemm_peak", "kernels", "peak_memory_bytes", "gemm_peak", "valid", "step_ms", "target"])
    d = 768
    expect = flop_per_token(1, d, 4 * d, 50257, 16, 8, [(d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)])
    assert abs(j["flop_per_token"] / expect - 1) < 1e-12, (j["flop_per_token"], expect)
    assert j["step_ms"]["n"] == 2 and j["loss_last"] < j["loss_first"], j
    shares = sum(k["share"] for k in j["kernels"].values() if isinstance(k, dict))
    assert abs(shares + j["kernels"]["unaccounted_share"] - 1) < 1e-9 and j["kernels"]["unaccounted_share"] < 0.2, j["kernels"]
    assert abs(j["gflops"] - j["tokens_per_s"] * expect * 1e-9) < 1e-6 * j["gflops"], j
    assert j["peak_memory_bytes"] > j["weights_bytes"] > 4 * (50257 * d + 12 * d * d), j["weights_bytes"]


def train__mixed_cuts_against_one():
    j = result("train", "--shape", "llama-tiny", "--devices", "3", "--cuts", "2,4,6", "--seq", "16", "--steps", "3")
    assert j["compared"]["with"] == "all devices cut at 4" and j["compared"]["gflops_ratio"] > 0, j["compared"]
    assert j["compared"]["step_ms"]["n"] == j["step_ms"]["n"] == j["compared"]["ratios"]["n"] == 3, j
    # the same mean: the same blocks are computed for as many rows
    assert abs(j["flop_per_token"] / j["compared"]["flop_per_token"] - 1) < 1e-12, j


def train__bf16_and_personal_adapters():
    args = ["train", "--shape", "llama-tiny", "--devices", "3", "--seq", "16", "--steps", "3", "--adapters", "personal"]
    done = bench(*args, "--precision", "bf16", "--json", expect=None)
    if done.returncode == SKIPPED:
        print("SKIP", done.stderr.strip(), flush=True)
    else:
        j = json.loads(done.stdout)
        # Four blocks of four products forward and backward, and the head's, which is tiled: bf16 is not f32 by another name.
        assert j["bf16_gemms"] >= 2 * (4 * 4 + 1) and j["valid"], (j["bf16_gemms"], j["invalid_because"])
        assert j["loss_last"] < j["loss_first"] and j["compared"]["with"] == "one shared adapter", j
    j = result(*args)
    assert j["bf16_gemms"] == 0 and j["compared"]["gflops_ratio"] > 0 and j["by_cpu_time"]["tokens_per_s"] > 0, j


def train__a_crippled_library_makes_it_invalid():
    env = dict(os.environ, OPENBLAS_CORETYPE="Haswell")
    done = subprocess.run([BENCH, "train", "--shape", "llama-tiny", "--steps", "1", "--json"], capture_output=True, text=True, timeout=TIMEOUT_S,
                          env=env, check=False)
    j = json.loads(done.stdout)
    if not j["machine"]["avx512"]:
        print("SKIP no AVX-512 to leave unused", flush=True)
        return
    assert not j["valid"] and "OPENBLAS_CORETYPE" in j["invalid_because"][0], j


def usage__says_what_is_wrong():
    for args, says in [((), "usage"), (("nonsense",), "no verb"), (("ingest", "--payload", "x"), "--payload"),
                       (("ingest", "--backend", "carrier-pigeon"), "memif"), (("handoff", "--seconds"), "needs a value"), (("train", "--shape", "gpt5"), "gpt2-small")]:
        err = bench(*args, expect=USAGE).stderr
        assert says in err and len(err.strip().splitlines()) <= 30, err
    for args in [("--help",), ("ingest", "--help"), ("handoff", "--help")]:
        assert "sluice-bench" in bench(*args).stdout
    assert "examples" in bench("ingest", "--help").stdout


def interrupt__leaves_nothing_behind(*args):
    p = subprocess.Popen([BENCH, *(args or ["ingest"]), "--seconds", "60", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=TIMEOUT_S)
    assert p.returncode == STOPPED, f"{p.returncode}: {err}"
    has(json.loads(out), EVERY)
    assert "stopped" in err, err
    assert not os.path.exists(f"/proc/{p.pid}")


def interrupt__two_processes():
    interrupt__leaves_nothing_behind("ingest", "--no-peers")
    interrupt__leaves_nothing_behind("overload")
    interrupt__leaves_nothing_behind("latency")
    interrupt__leaves_nothing_behind("scale")


TESTS = [ingest__all_fields_and_nothing_uncounted, ingest__jumbo_frames_and_many_sessions, ingest__every_codec, ingest__two_data_lcores,
         ingest__over_veth,
         handoff__all_fields, overload__nothing_uncounted, path__every_lcore, latency__every_load_and_every_message, scale__every_session_and_every_message, reject__every_packet_under_its_name,
         swap__adapters_come_back, wake__both_ports, link__every_queue_as_its_model, link__an_experiments_phone, link__kernel_tcp_comes_to_the_rate,
         emulator__accounts_for_every_packet, radio__accounts_for_every_packet, plan__no_comparison_is_better, products__every_matrix_of_a_shape, train__counts_the_mathematics, train__mixed_cuts_against_one, train__bf16_and_personal_adapters, train__a_crippled_library_makes_it_invalid,
         usage__says_what_is_wrong, interrupt__leaves_nothing_behind, interrupt__two_processes]


def main():
    failed = 0
    for test in TESTS:
        began = time.monotonic()
        try:
            test()
            print(f"ok   {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except (AssertionError, subprocess.TimeoutExpired, json.JSONDecodeError) as e:
            failed += 1
            print(f"FAIL {test.__name__}: {e}", flush=True)
    return 1 if failed else 0


sys.exit(main())
