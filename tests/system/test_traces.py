#!/usr/bin/python3
"""scripts/traces: conversions there and back, a summary by hand, and what is no trace is refused with its file and line."""
import json
import os
import subprocess
import tempfile
import zipfile

from harness import ROOT, Skip, run_tests

TRACES = os.path.join(ROOT, "scripts", "traces")
SHARED = os.path.join(os.path.dirname(ROOT), "shared", "data", "traces")
TIMEOUT_S = 120
UCC_HEADER = "Timestamp,Speed,CQI,DL_bitrate,UL_bitrate,State\n"


def traces(*arguments, expect=0):
    done = subprocess.run([TRACES, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == expect, (arguments, done.returncode, done.stdout[-500:], done.stderr[-500:])
    return done.stdout if expect == 0 else done.stderr


def put(work, name, text):
    path = os.path.join(work, name)
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write(text)
    return path


def times(path):
    with open(path, encoding="utf-8") as f:
        return [int(line) for line in f]


def rows(path):
    with open(path, encoding="utf-8") as f:
        return [line.rstrip("\n").split(",") for line in f]


def near(a, b, relative=1e-9):
    return abs(a - b) <= relative * max(abs(a), abs(b))


def test_summary_of_a_trace_by_hand():
    with tempfile.TemporaryDirectory() as work:
        # 3 opportunities in second 0, none in second 1, 1 in second 2, and the end at 3 s: 5 x 1500 bytes in 3 s.
        file = put(work, "t", "100\n100\n900\n2400\n3000\n")
        s = json.loads(traces("summary", file, "--json"))
        assert s["kind"] == "trace" and s["opportunities"] == 5 and s["seconds"] == 3 and near(s["mean_mbps"], 5 * 12000 / 3 / 1e6), s
        assert s["whole_seconds"] == 3 and s["seconds_without_delivery"] == 1 and s["longest_silence_s"] == 1.5, s
        assert near(s["p50_mbps"], 0.012) and near(s["max_mbps"], 0.036) and near(s["p90_mbps"], 0.012 + 0.8 * 0.024), s
        assert "seconds_without_delivery  1\n" in traces("summary", file)


def test_summary_of_rates_by_hand():
    with tempfile.TemporaryDirectory() as work:
        # Half seconds: whole seconds of 3, 0 and 0.5 Mbit/s; silent from 1.0 to 2.5 s, and nothing joins its ends.
        file = put(work, "r.csv", "time_ms,rate_mbps\n0,2\n500,4\n1000,0\n1500,0\n2000,0\n2500,1\n")
        s = json.loads(traces("summary", file, "--column", "rate_mbps", "--json"))
        assert s["kind"] == "rates" and s["seconds"] == 3 and near(s["mean_mbps"], 3.5 / 3), s
        assert s["seconds_without_delivery"] == 1 and near(s["longest_silence_s"], 1.5) and near(s["p50_mbps"], 0.5) and near(s["max_mbps"], 3), s


def test_rates_to_a_trace_and_back():
    with tempfile.TemporaryDirectory() as work:
        # 12 Mbit/s is an opportunity a ms; 1.2 Mbit/s one every 10 ms; then two silent seconds, which the last line keeps.
        file = put(work, "r.csv", "time_s,up_kbps\n0,12000\n1,1200\n2,0\n3,0\n")
        out = os.path.join(work, "t")
        traces("to-trace", file, "--column", "up_kbps", "-o", out)
        assert times(out) == list(range(1, 1001)) + list(range(1010, 2000, 10)) + [4000], times(out)[990:]
        back = os.path.join(work, "b.csv")
        traces("to-rates", "--up", out, "-o", back)
        assert rows(back) == [["time_s", "up_kbps"], ["0", "12000"], ["1", "1188"], ["2", "0"], ["3", "12"]], rows(back)


def test_a_trace_to_rates_loses_nothing():
    with tempfile.TemporaryDirectory() as work:
        # 3456 ms do not divide into seconds: three equal steps.
        file = put(work, "t", "".join(f"{i * 7 // 2}\n" for i in range(988)) + "3456\n")
        out = os.path.join(work, "r.csv")
        traces("to-rates", "--down", file, "-o", out)
        found = rows(out)
        assert found[0] == ["time_s", "down_kbps"] and len(found) == 4 and near(float(found[2][0]), 1.152), found
        bits = sum(float(r[1]) * 1e3 * 1.152 for r in found[1:])
        assert near(bits, 989 * 12000, 1e-5), bits
        traces("to-rates", "--down", file, "--up", put(work, "u", "5\n"), "-o", out, expect=1)


def test_the_recorder_s_seconds():
    with tempfile.TemporaryDirectory() as work:
        # Two rows in one second, two seconds left out, a clock set back by one second, a rate not recorded, an hour's pause.
        file = put(work, "ucc.csv", UCC_HEADER
                   + "2019.12.16_13.40.58,0,15,1000,100,D\n2019.12.16_13.40.58,0,15,3000,300,D\n2019.12.16_13.41.01,0,15,5000,-,D\n"
                   + "2019.12.16_13.41.00,0,15,7000,0,D\n2019.12.16_14.41.00,0,15,9000,50,D\n")
        out = os.path.join(work, "r.csv")
        traces("to-rates", file, "-o", out)
        assert rows(out) == [["time_s", "up_kbps", "down_kbps"], ["0", "200", "2000"], ["1", "200", "2000"], ["2", "200", "2000"],
                             ["3", "0", "6000"], ["4", "50", "9000"]], rows(out)
        s = json.loads(traces("summary", file, "--column", "down_kbps", "--json"))
        assert (s["merged_rows"], s["held_seconds"], s["cut_out_seconds"], s["seconds"]) == (2, 2, 3598, 5), s
        archive = os.path.join(work, "a.zip")
        with zipfile.ZipFile(archive, "w") as z:
            z.write(file, "set/Driving/one.csv")
            z.write(file, "set/Static/one.csv")
        inside = json.loads(traces("summary", archive + ":Static/one.csv", "--column", "down_kbps", "--json"))
        assert inside["mean_mbps"] == s["mean_mbps"], inside
        assert "2 files" in traces("summary", archive + ":one.csv", "--column", "down_kbps", expect=1)
        assert "set/Driving/one.csv\nset/Static/one.csv" in traces("summary", archive + ":", expect=1)


def test_what_is_made_up():
    with tempfile.TemporaryDirectory() as work:
        out = os.path.join(work, "t")
        traces("make", "--mbps", "12", "--seconds", "2", "-o", out)
        assert times(out) == list(range(1, 2001))
        wild = ["make", "--mbps", "20", "--seconds", "3000", "--sigma", "0.6", "--outage-every", "60", "--outage", "4", "--seed", "5", "-o"]
        first, again = os.path.join(work, "a.csv"), os.path.join(work, "b.csv")
        traces(*wild, first)
        traces(*wild, again)
        assert rows(first) == rows(again) and len(rows(first)) == 3001
        s = json.loads(traces("summary", first, "--column", "rate_kbps", "--json"))
        silent = s["seconds_without_delivery"] / 3000
        # 3000 s hold some 47 outages of 4 s each: 1/16 of the time, standard error about 0.013; the rate's mean is known within 10 %.
        assert 0.02 < silent < 0.11 and 14 < s["mean_mbps"] / (1 - silent) < 26, s


def test_what_is_no_record_is_refused_by_line():
    with tempfile.TemporaryDirectory() as work:
        for text, line, word in (("", 1, "empty"), ("1\n5\n3\n", 3, "earlier"), ("1\n-5\n", 2, "not a whole number"), ("1\n2.5\n", 2, "not a whole number"),
                                 ("1\n\n", 2, "not a whole number"), ("0\n0\n", 2, "ends at 0")):
            file = put(work, "bad", text)
            kind = ["to-rates", "--up", file, "-o", "-"]
            err = traces(*kind, expect=1)
            assert err.startswith(f"traces: {file}:{line}: ") and word in err and err.count("\n") == 1, err
        for text, line, word in (("", 1, "empty"), ("time_s,up_kbps\n", 1, "no row"), ("t,up_kbps\n0,1\n", 1, "no column time_s"),
                                 ("time_s,up\n0,1\n", 1, "no column up_kbps"), ("time_s,up_kbps\n0,1\n1,-3\n", 3, "below 0"),
                                 ("time_s,up_kbps\n0,1\n0,3\n", 3, "no later"), ("time_s,up_kbps\n0,x\n", 2, "not a number"),
                                 ("time_s,up_kbps\n0,nan\n", 2, "not a number"), ("time_s,up_kbps\n0\n", 2, "fewer columns"),
                                 ("time_s,up_kbps\n0,1e300\n", 2, "1 Tbit/s")):
            file = put(work, "bad.csv", text)
            err = traces("to-trace", file, "--column", "up_kbps", "-o", os.path.join(work, "never"), expect=1)
            assert err.startswith(f"traces: {file}:{line}: ") and word in err and err.count("\n") == 1, err
        file = put(work, "stamp.csv", UCC_HEADER + "2019.12.16_13.40.58,0,1,1,1,D\n2019.12.16_13.40.01,0,1,1,1,D\n")
        assert f"{file}:3: earlier" in traces("to-rates", file, "-o", "-", expect=1)
        assert not os.path.exists(os.path.join(work, "never")) and os.listdir(work).count("never.part") == 0
        assert "No such file" in traces("summary", os.path.join(work, "none"), expect=1)
        traces("make", "--mbps", "-1", "--seconds", "2", "-o", "-", expect=2)


def test_a_billion_lines_end_early():
    """Ten million and one lines are refused; what follows is not looked at."""
    with tempfile.TemporaryDirectory() as work:
        file = os.path.join(work, "long")
        with open(file, "wb") as f:
            for _ in range(101):
                f.write(b"7\n" * 100_000)
        err = traces("summary", file, expect=1)
        assert err.startswith(f"traces: {file}:10000001: more than 10,000,000 lines"), err


def test_recorded_ones():
    file = os.path.join(SHARED, "mahimahi", "ATT-LTE-driving.up")
    if not os.path.exists(file):
        raise Skip("recorded traces (../shared/data/traces)")
    s = json.loads(traces("summary", file, "--json"))
    assert s["opportunities"] == 70336 and s["seconds_without_delivery"] == 94 and s["whole_seconds"] == 1012, s
    archive = os.path.join(SHARED, "uccmisl-5g", "5G-production-dataset.zip")
    with tempfile.TemporaryDirectory() as work:
        csv, trace = os.path.join(work, "r.csv"), os.path.join(work, "t")
        traces("to-rates", archive + ":B_2019.12.16_12.27.05.csv", "-o", csv)
        traces("to-trace", csv, "--column", "down_kbps", "-o", trace)
        a = json.loads(traces("summary", csv, "--column", "down_kbps", "--json"))
        b = json.loads(traces("summary", trace, "--json"))
        assert a["seconds"] == b["seconds"] and near(a["mean_mbps"], b["mean_mbps"], 1e-4), (a, b)


run_tests(globals())
