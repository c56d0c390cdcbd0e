"""What a run leaves for people: manifest.json, metrics.jsonl, summary.json, report.md. Used by scripts/run."""
import hashlib
import json
import os
import platform
import random
import re
import subprocess
import time

import yaml

import baselines
import forecasts
import plot
import traffic

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BOOTSTRAP_RESAMPLES = 2000  # a 95 % interval moves by about 1 % of its width between seeds at this number
VERSIONED_PACKAGES = ["libdpdk-dev", "liburing2", "libopenblas0-pthread", "libipsec-mb1", "libssl3", "libprotobuf-c1", "libyaml-0-2"]


class Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML would take 1e-3 for a text."""


Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))


def load_yaml(path):
    with open(path, encoding="utf-8") as f:
        return yaml.load(f, Loader=Loader)


def load_experiment(path, calibration):
    """The experiment with every class of the fleet as the programs understand it: presets, shares and defaults are in the calibration."""
    experiment = load_yaml(path)
    fleet = experiment["fleet"]
    said = fleet["classes"] if isinstance(fleet, dict) else fleet
    known = {c["class"]: c for c in calibration.get("classes", [])}
    constants = ("count", "seq", "compute_gflops", "compute_w", "idle_w", "radio_tx_w", "radio_rx_w")
    experiment["fleet"] = [{**c, **{k: known[c["class"]][k] for k in constants if k in known.get(c["class"], {})}} for c in said]
    return experiment


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def events(path):
    """The JSON objects of a metrics file; a torn last line (a killed program) is left out."""
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as f:
        for line in f:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _last(run_dir, name, event):
    found = None
    for e in events(os.path.join(run_dir, name)):
        if e.get("event") == event:
            found = e
    return found or {}


def _command(*words):
    try:
        return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _read(path):
    try:
        with open(path, encoding="utf-8") as f:
            return f.read().strip()
    except OSError:
        return None


def _host():
    cpu = re.search(r"model name\s*:\s*(.*)", _read("/proc/cpuinfo") or "")
    memory = re.search(r"MemTotal:\s*(\d+)", _read("/proc/meminfo") or "")
    huge = re.search(r"HugePages_Total:\s*(\d+)", _read("/proc/meminfo") or "")
    return {"cpu": cpu.group(1) if cpu else platform.processor(), "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "memory_mib": int(memory.group(1)) // 1024 if memory else None, "huge_pages": int(huge.group(1)) if huge else 0,
            "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "isolated_cpus": _read("/sys/devices/system/cpu/isolated") or ""}


def write_manifest(run_dir, experiment, build, calibration):
    model = experiment["model"]["path"]
    versions = {p: _command("dpkg-query", "-W", "-f", "${Version}", p) for p in VERSIONED_PACKAGES}
    programs = {"sluice-edge": ("trainer", "edge"), "sluice-sim": ("device-sim", "fleet"), "sluice-train": ("trainer", "tools")}
    manifest = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "name": experiment.get("name"), "seed": experiment.get("seed", 1),
        "commit": _command("git", "rev-parse", "HEAD"), "dirty": bool(_command("git", "status", "--porcelain")),
        "versions": {k: v for k, v in versions.items() if v}, "host": _host(), "calibration": calibration,
        "hashes": {"experiment.yaml": _sha256(os.path.join(run_dir, "experiment.yaml")),
                   **{f"model/{n}": _sha256(os.path.join(model, n)) for n in sorted(os.listdir(model))
                      if n.endswith((".json", ".safetensors"))},
                   **{n: _sha256(os.path.join(build, *p, n)) for n, p in programs.items() if os.path.exists(os.path.join(build, *p, n))}},
    }
    _write_json(run_dir, "manifest.json", manifest)


def _complete_manifest(run_dir):
    """What only the running edge knew: its GEMM kernel, AEAD and EAL arguments."""
    with open(os.path.join(run_dir, "manifest.json"), encoding="utf-8") as f:
        manifest = json.load(f)
    start = _last(run_dir, "edge.jsonl", "start")
    for key in ("precision", "gemm_kernel", "kernel_level", "aead", "eal_args", "run", "incarnation"):
        manifest[key] = start.get(key)
    _write_json(run_dir, "manifest.json", manifest)


def _write_json(run_dir, name, value):
    path = os.path.join(run_dir, name)
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2)
        f.write("\n")
    os.replace(path + ".tmp", path)


def _clock_ahead_s(run_dir):
    """How far the edge's clock is ahead; 0 where it cannot be told from none (one host)."""
    clock = _last(run_dir, "sim.jsonl", "end").get("edge_clock", {})
    return clock["ahead_ms"] / 1e3 if clock and abs(clock["ahead_ms"]) > clock["uncertainty_ms"] else 0.0


def merge_metrics(run_dir):
    """Both programs' events in one file, by time: the simulator's clock, where the edge's is known to be another."""
    merged = []
    ahead_s = _clock_ahead_s(run_dir)
    for source in ("edge", "sim"):
        for e in events(os.path.join(run_dir, source + ".jsonl")):
            if source == "edge" and ahead_s and "t" in e:
                e["t"] -= ahead_s
            merged.append({**e, "source": source})
    merged.sort(key=lambda e: e.get("t", 0))
    with open(os.path.join(run_dir, "metrics.jsonl"), "w", encoding="utf-8") as f:
        for e in merged:
            f.write(json.dumps(e) + "\n")


def _steps(run_dir):
    """Step events by number: after a restart the repeated ones replace those that were rolled back."""
    steps = {}
    for e in events(os.path.join(run_dir, "edge.jsonl")):
        if e.get("event") == "step":
            steps[e["step"]] = e
    return steps


def count_steps(run_dir):
    return len(_steps(run_dir))


def _windows(run_dir, phase):
    """(device index, window) -> (nats, tokens)."""
    found = {}
    for e in events(os.path.join(run_dir, "edge.jsonl")):
        if e.get("event") == "eval" and e.get("phase") == phase:
            first = e.get("first", 0)
            for i, (nll, tokens) in enumerate(zip(e["nll"], e["tokens"])):
                found[(e["index"], e.get("step", 0), first + i)] = (nll, tokens)
    by_device = {}
    for (device, _, _), value in sorted(found.items()):
        by_device.setdefault(device, []).append(value)
    return {(device, i): v for device, values in by_device.items() for i, v in enumerate(values)}


def _mean(windows):
    tokens = sum(t for _, t in windows)
    return sum(n for n, _ in windows) / tokens if tokens else None


def _fall_interval(pairs, seed):
    """95 % interval of the fall in nats a token: paired bootstrap over windows."""
    if len(pairs) < 2:
        return None
    rng = random.Random(seed)
    falls = []
    for _ in range(BOOTSTRAP_RESAMPLES):
        sample = rng.choices(pairs, k=len(pairs))
        falls.append(sum(b - a for b, a, _ in sample) / sum(t for _, _, t in sample))
    falls.sort()
    return [falls[int(0.025 * len(falls))], falls[int(0.975 * len(falls)) - 1]]


def _phones(run_dir):
    phones = {e["index"]: e for e in events(os.path.join(run_dir, "sim.jsonl")) if e.get("event") == "phone"}
    return [phones[i] for i in sorted(phones)]


def _curves(run_dir, experiment, baseline):
    """Loss over steps, simulated seconds, bytes and joules: of the run and of its baselines."""
    totals = [e for e in events(os.path.join(run_dir, "sim.jsonl")) if e.get("event") == "totals"]
    ahead_s = _clock_ahead_s(run_dir)
    steps = {n: {**e, "t": e["t"] - ahead_s} for n, e in _steps(run_dir).items()}
    began = [e["t"] - ahead_s for e in events(os.path.join(run_dir, "edge.jsonl")) if e.get("event") == "phase" and e.get("phase") == "train"]
    found = {"split": baselines.split_curve(steps, totals, began[-1] if len(began) == 1 else None)}
    if baseline:
        c = baseline["central"]
        tokens = sum(s["tokens"] for s in steps.values()) / max(1, len(steps))
        found["central"] = baselines.central_curve(c["losses"], tokens, c["tokens_per_s"], c["batch"], c["seq"], experiment)
        if "fedlora" in baseline:
            f = baseline["fedlora"]
            found["fedlora"] = baselines.fedlora_curve(f, f["indices"], f["every"], experiment)
    return {k: v for k, v in found.items() if v}


def _comparison(run_dir, experiment, baseline, nll_after):
    curves = _curves(run_dir, experiment, baseline)
    after = {"split": nll_after, **{k: baseline[k]["nll"] for k in ("central", "fedlora") if baseline and k in baseline}}
    return {k: {"nll_after": after.get(k), **baselines.last(v), "curve": baselines.thin(v)} for k, v in curves.items()}


def summarise(run_dir, experiment, calibration, baseline, wall_s):
    before, after = _windows(run_dir, "before"), _windows(run_dir, "after")
    both = sorted(set(before) & set(after))
    end, start = _last(run_dir, "edge.jsonl", "end"), _last(run_dir, "edge.jsonl", "start")
    sim_start = _last(run_dir, "sim.jsonl", "start")
    sim_end, phones, steps = _last(run_dir, "sim.jsonl", "end"), _phones(run_dir), _steps(run_dir)
    tokens = sum(s["tokens"] for s in steps.values())
    nll_after = _mean([after[k] for k in both])
    return {
        "name": experiment.get("name"), "devices": len(phones), "steps": len(steps), "tokens": tokens,
        "tokens_per_s": end.get("tokens_per_s"), "stall": end.get("stall"), "busy": end.get("busy"),
        "nll_before": _mean([before[k] for k in both]), "nll_after": nll_after,
        "nll_ci95": _fall_interval([(before[k][0], after[k][0], before[k][1]) for k in both], experiment.get("seed", 1)),
        "personal": _by_device(end) if experiment.get("training", {}).get("adapters") == "personal" else None,
        "held_out_windows": len(both), "nll_after_central": baseline["central"]["nll"] if baseline else None,
        "nll_after_fedlora": baseline["fedlora"]["nll"] if baseline and "fedlora" in baseline else None,
        "bytes_up": sum(p["bytes_up"] for p in phones), "bytes_down": sum(p["bytes_down"] for p in phones),
        "packets_rx": end.get("packets_rx"), "drops": end.get("drops", {}),
        "retransmits": (end.get("retransmits") or 0) + sum(p.get("retransmits", 0) for p in phones),
        "latency_p99_ms": end.get("latency_p99_ms"), "host_bound": sim_end.get("host_bound"),
        "lag": sim_end.get("lag"), "compute": {"edge": end.get("compute"), "phones": sim_start.get("compute")},
        "calibration": calibration, "backend": start.get("backend"), "codec": start.get("codec"),
        "edge_clock": sim_end.get("edge_clock"), "wall_s": round(wall_s if wall_s is not None else end.get("wall_s") or 0, 1),
        "phones": [{"id": p["id"], "class": p["class"], "cut": p["cut"], "energy_j": p["energy_j"], "bytes_up": p["bytes_up"],
                    "bytes_down": p["bytes_down"]} for p in phones],
        "energy": {cause: sum(p["energy"][cause] for p in phones) for cause in (phones[0]["energy"] if phones else {})},
        "forecasts": forecasts.errors(events(os.path.join(run_dir, "edge.jsonl"))),
        "comparison": _comparison(run_dir, experiment, baseline, nll_after),
    }


def _by_device(end):
    """Personal adapters (rules L3): beside the mean, the median and the worst device; and what moved between memory and disk."""
    after, store = end.get("held_out", {}).get("after"), end.get("adapters", {})
    if not after:
        return None
    return {"nll_median": after["median"], "nll_worst": after["worst"], "worst_device": after["worst_device"], "devices": after["devices"],
            "resident": store.get("resident"), "loads": store.get("loads"), "load_ms": store.get("load_ms"),
            "gangs_waited": store["gangs_waited"] / store["gangs"] if store.get("gangs") else None}


def fleet_sentence(experiment, calibration):
    classes = ", ".join(f"{c['count']} {c['class']}" for c in experiment["fleet"])
    load = calibration.get("core_share")
    carried = "; ".join(f"{c['class']}: {c['phones_max']}" for c in calibration.get("classes", []) if "phones_max" in c)
    text = f"{classes} phones"
    if load is not None:
        text += f", {100 * load:.0f} % of a core to compute them"
    if carried:
        text += f" (this host carries, of one class alone: {carried})"
    return text


def _number(value, digits=3):
    return "n/a" if value is None else f"{value:.{digits}f}"


PHONES_SHOWN = 64
COMPARED = {"split": "split (this run)", "central": "central", "fedlora": "federated LoRA"}
SMOOTHED_STEPS = 5  # in the plots: training losses differ from window to window


def _comparison_table(comparison):
    """The same windows, three ways; seconds and joules are the modelled phones', bytes what their radios carried."""
    lines = ["", f"{'the same windows':18}{'held-out':>10}{'seconds':>10}{'MB':>9}{'joules':>9}"]
    for key, name in COMPARED.items():
        c = comparison.get(key)
        if c:
            lines.append(f"{name:18}{_number(c['nll_after'], 4):>10}{c['seconds']:>10.1f}{c['bytes'] / 1e6:>9.2f}{c['joules']:>9.0f}")
    return lines


def draw_comparison(comparison, path):
    panels = []
    for key, label, scale, log in (("step", "steps", 1, False), ("seconds", "simulated seconds", 1, True), ("bytes", "MB through the phones' radios", 1e6, True),
                                   ("joules", "joules of all phones", 1, True)):
        series = [plot.Series(name, [v / scale for v in comparison[k]["curve"][key]], baselines.smooth(comparison[k]["curve"]["loss"], SMOOTHED_STEPS))
                  for k, name in COMPARED.items() if k in comparison]
        if log and any(x > 0 for s in series for x in s.x):
            panels.append(plot.Panel(f"training loss by {key if key != 'step' else 'steps'}", label, "nats per token", series, log_x=True))
        elif not log:
            panels.append(plot.Panel("training loss by steps", label, "nats per token", series))
    plot.write(path, panels)


def _what_was_modelled(s):
    """What a reader must know before any figure: what was not computed, and whether the schedule was kept (rules L13)."""
    lines, compute, lag = [], s["compute"], s.get("lag")
    if lag and not lag["valid"]:
        lines.append(f"INVALID: the simulator handled packets or phones later than its schedule: lag p99 {_lag_ms(lag):.3f} ms, bound {lag['bound_ms']:g} ms "
                     "(sim.lag_bound_ms). Its times and joules are those of a host that was too slow, and not quotable; losses are not affected.")
    if compute["phones"] == "replay":
        lines.append("phones          replay: they sent messages that were not computed in this run, and did not learn")
    if compute["edge"] == "modelled":
        lines.append("edge            modelled: no losses; its gangs took the time of edge.compute_gflops")
    return lines


def _lag_ms(lag):
    return max(lag[k]["p99_us"] for k in ("up", "down", "phones")) * 1e-3


def text(s, run_dir):
    """The result on a terminal."""
    lines = ["", *_what_was_modelled(s)]
    if s["nll_before"] is not None:
        lines.append(f"held-out loss   {_number(s['nll_before'], 4)} -> {_number(s['nll_after'], 4)} nats/token")
    if s["nll_ci95"]:
        fall = s["nll_before"] - s["nll_after"]
        lines[-1] += f"  (fall {fall:.4f}, 95 % interval {s['nll_ci95'][0]:.4f} to {s['nll_ci95'][1]:.4f}, {s['held_out_windows']} windows)"
    if s.get("personal"):
        p = s["personal"]
        lines.append(f"by device       median {_number(p['nll_median'], 4)}, worst {_number(p['nll_worst'], 4)} ({p['worst_device']}) of {p['devices']}, "
                     f"each with its own adapter; {p['resident']} in memory, {p['loads']} loads")
    if s["nll_after_central"] is not None:
        fall, central = s["nll_before"] - s["nll_after"], s["nll_before"] - s["nll_after_central"]
        lines.append(f"central         {s['nll_after_central']:.4f} nats/token with the same windows in one process: "
                     f"the split run reached {100 * fall / central:.0f} % of its fall" if central > 0 else "central         no fall")
    lines.append(f"trained         {s['steps']} steps, {s['tokens']} tokens, {_number(s['tokens_per_s'], 0)} tokens/s")
    if s.get("stall") is not None:
        lines.append(f"trainer         {100 * s['busy']:.1f} % busy, {100 * s['stall']:.1f} % stalled: idle while a message or a request waited")
    lines.append(f"traffic         {s['bytes_up'] / 1e6:.2f} MB up, {s['bytes_down'] / 1e6:.2f} MB down, {s['retransmits']} retransmissions, "
                 f"message latency p99 {_number(s['latency_p99_ms'], 1)} ms")
    if any(s["energy"].values()):
        total = sum(s["energy"].values())
        lines.append(f"energy          {total:.1f} J of the phones: " +
                     ", ".join(f"{cause} {100 * joules / total:.1f} %" for cause, joules in s["energy"].items()))
    foretold = s.get("forecasts", {}).get("all", {})
    if "time" in foretold and "energy" in foretold:
        lines.append(f"foretold        a phone's step within {100 * foretold['time']['median']:.0f} % of its time and {100 * foretold['energy']['median']:.0f} % of its "
                     f"energy at the median, {100 * foretold['time']['p90']:.0f} and {100 * foretold['energy']['p90']:.0f} % at the 90th percentile "
                     f"({foretold['windows']} windows)")
    if len(s["comparison"]) > 1:
        lines += _comparison_table(s["comparison"])
    clock = s.get("edge_clock")
    if clock and abs(clock["ahead_ms"]) > clock["uncertainty_ms"]:
        lines.append(f"clocks          the edge's is {clock['ahead_ms']:+.3f} ms ahead of the fleet's, known within "
                     f"{clock['uncertainty_ms']:.3f} ms")
    if s.get("lag"):
        lines.append(f"schedule lag    p99 {_lag_ms(s['lag']):.3f} ms (packets up {s['lag']['up']['p99_us']:.0f} us, down {s['lag']['down']['p99_us']:.0f} us, "
                     f"phones {s['lag']['phones']['p99_us']:.0f} us)")
    lines += ["", f"{'phone':14}{'class':12}{'cut':>4}{'energy J':>10}{'up MB':>9}{'down MB':>9}"]
    for p in s["phones"][:PHONES_SHOWN]:
        lines.append(f"{p['id']:14}{p['class']:12}{p['cut']:>4}{p['energy_j']:>10.1f}{p['bytes_up'] / 1e6:>9.2f}{p['bytes_down'] / 1e6:>9.2f}")
    if len(s["phones"]) > PHONES_SHOWN:
        lines.append(f"... and {len(s['phones']) - PHONES_SHOWN} more in summary.json")
    if s["host_bound"]:
        lines += ["", "This host could not keep up with the modelled phones: times and joules of this run are not quotable."]
    lines += ["", f"run directory   {run_dir}", f"report          {os.path.join(run_dir, 'report.md')}"]
    return "\n".join(lines)


def _markdown(s, run_dir):
    steps = _steps(run_dir)
    numbers = sorted(steps)
    picked = [numbers[i] for i in sorted({0, *range(9, len(numbers), 10), len(numbers) - 1})] if numbers else []
    drops = ", ".join(f"{k} {v}" for k, v in sorted(s["drops"].items()) if v) or "none"
    out = [f"# {s['name']}", "", "```", text(s, run_dir).strip(), "```", "", "| step | training loss | tokens | devices | gang ms |",
           "|---:|---:|---:|---:|---:|"]
    out += [f"| {n} | {_number(steps[n].get('loss'), 4)} | {steps[n]['tokens']} | {steps[n]['devices']} | {steps[n].get('gang_ms', 0):.1f} |" for n in picked]
    if s["comparison"]:
        out += ["", "![training loss against steps, seconds, bytes and joules](comparison.svg)", "",
                f"Means over {SMOOTHED_STEPS} steps. The baselines' seconds, bytes and joules follow from the phones' classes (docs/experiment.md, "
                "*The comparison*); the split run's are its own."]
    if os.path.exists(os.path.join(run_dir, "traffic.svg")):
        out += ["", "![load, rates, round trips, queues, batteries and states of some phones](traffic.svg)", "",
                f"`sluice-sim --profile {run_dir}` says the same in numbers; `scripts/plot` draws other phones."]
    out += ["", f"Backend {s['backend']}, codec {s['codec']}, {s['packets_rx']} packets received by the edge; refused: {drops}.",
            "", "Splitting hides nothing by itself: target ids are the text, and activations can be inverted.", ""]
    return "\n".join(out)


def write(run_dir, experiment, calibration, baseline, wall_s):
    """`baseline`: what scripts/run's yardstick found; None: nothing."""
    merge_metrics(run_dir)
    _complete_manifest(run_dir)
    summary = summarise(run_dir, experiment, calibration, baseline, wall_s)
    if summary["comparison"]:
        draw_comparison(summary["comparison"], os.path.join(run_dir, "comparison.svg"))
    try:
        traffic.draw(run_dir, os.path.join(run_dir, "traffic.svg"))
    except traffic.Bad:  # a run that ended at once, or a fleet on another host
        pass
    _write_json(run_dir, "summary.json", summary)
    with open(os.path.join(run_dir, "report.md"), "w", encoding="utf-8") as f:
        f.write(_markdown(summary, run_dir))
    return summary
