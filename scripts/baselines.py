"""What a split run is compared with: the same windows trained centrally, and by federated LoRA. Used by scripts/run.

Losses are computed (sluice-train). Times, bytes and joules of the baselines follow from the phones' classes; the split run's are its own, as
measured (docs/experiment.md, "The comparison")."""
import os

ID_BYTES = 4  # a token id, when text is uploaded
POINTS_MAX = 200  # of a curve in summary.json


def phone_classes(experiment):
    """The class of each phone, in the fleet's order."""
    return [c for c in experiment["fleet"] for _ in range(c["count"])]


def split_windows(run_dir):
    """central.ids, taken apart into a file for each phone that trained. Returns [(phone, file)]."""
    folder = os.path.join(run_dir, "fedlora-ids")
    os.makedirs(folder, exist_ok=True)
    lines = {}
    with open(os.path.join(run_dir, "central.ids"), encoding="utf-8") as ids, open(os.path.join(run_dir, "central.phones"), encoding="utf-8") as phones:
        for window, phone in zip(ids, phones):
            lines.setdefault(int(phone), []).append(window)
    found = []
    for phone in sorted(lines):
        found.append((phone, os.path.join(folder, f"device-{phone:05d}.ids")))
        with open(found[-1][1], "w", encoding="utf-8") as f:
            f.writelines(lines[phone])
    return found


def transfer_s(size, mbps):
    return 8e-6 * size / mbps


def _idle_w(phone):
    return phone.get("idle_w", 0.3)  # the experiment file's default


def central_curve(losses, step_tokens, tokens_per_s, batch, seq, experiment):
    """Each step's windows are uploaded as token ids, a window from each of `batch` phones at a time, then the edge trains on them alone."""
    fleet = phone_classes(experiment)
    size = ID_BYTES * seq
    upload = [transfer_s(size, c["link"]["up_mbps"]) for c in fleet]
    slowest = max(u + 0.5e-3 * c["link"]["rtt_ms"] for u, c in zip(upload, fleet))
    step_s = slowest + step_tokens / tokens_per_s
    # On average each phone brings batch / phones of a step's windows.
    share = batch / len(fleet)
    step_j = sum(c["radio_tx_w"] * share * u + _idle_w(c) * step_s for u, c in zip(upload, fleet))
    n = len(losses)
    return {"loss": losses, "seconds": [step_s * (i + 1) for i in range(n)], "bytes": [size * batch * (i + 1) for i in range(n)],
            "joules": [step_j * (i + 1) for i in range(n)]}


def fedlora_curve(fed, phones, every, experiment):
    """`phones`: the fleet index of each of fed["phones"]. A round: local steps, then every phone that trained sends its adapter and gets the average;
    it lasts as long as its slowest phone. A phone that has no windows left waits without a share in it."""
    fleet = phone_classes(experiment)
    curve = {"loss": fed["losses"], "seconds": [], "bytes": [], "joules": []}
    members = [{"class": fleet[index], "steps": p["steps"], "step_s": p["flop"] / p["steps"] / (1e9 * fleet[index]["compute_gflops"])}
               for index, p in zip(phones, fed["phones"])]
    size = fed["adapter_bytes"]
    seconds = joules = 0.0
    sent = 0
    for first in range(0, fed["steps"], every):
        last = min(first + every, fed["steps"])
        active = [(m, min(m["steps"], last) - first) for m in members if m["steps"] > first]
        for s in range(first + 1, last):  # steps within the round: nothing has been sent yet
            done = [(m, min(n, s - first)) for m, n in active]
            at = max(m["step_s"] * n for m, n in done)
            curve["seconds"].append(seconds + at)
            curve["bytes"].append(sent)
            curve["joules"].append(joules + sum(_joules(m["class"], m["step_s"] * n, 0, 0, at) for m, n in done))
        moves = [(m, m["step_s"] * n, transfer_s(size, m["class"]["link"]["up_mbps"]), transfer_s(size, m["class"]["link"]["down_mbps"])) for m, n in active]
        round_s = max(compute + up + down + 1e-3 * m["class"]["link"]["rtt_ms"] for m, compute, up, down in moves)
        joules += sum(_joules(m["class"], compute, up, down, round_s) for m, compute, up, down in moves)
        seconds += round_s
        sent += 2 * size * len(active)
        curve["seconds"].append(seconds)
        curve["bytes"].append(sent)
        curve["joules"].append(joules)
    return curve


def _joules(phone, compute_s, up_s, down_s, all_s):
    """The chip computes or idles; the radio's power comes on top."""
    idle = max(0.0, all_s - compute_s)
    return phone["compute_w"] * compute_s + phone["radio_tx_w"] * up_s + phone["radio_rx_w"] * down_s + _idle_w(phone) * idle


def _at(times, values, t):
    """Straight between two known values; constant outside."""
    if not times:
        return None
    if t <= times[0]:
        return values[0]
    for i in range(1, len(times)):
        if t <= times[i]:
            share = (t - times[i - 1]) / (times[i] - times[i - 1]) if times[i] > times[i - 1] else 1
            return values[i - 1] + share * (values[i] - values[i - 1])
    return values[-1]


def split_curve(steps, totals, began):
    """`steps` {number: event}, `totals` the simulator's events, `began` when training did; all by the simulator's clock."""
    numbers = sorted(steps)
    times = [e["t"] for e in totals]
    sent = [e["bytes_up"] + e["bytes_down"] for e in totals]
    joules = [e["energy_j"] for e in totals]
    if not numbers or not times:
        return None
    if began is None:
        began = steps[numbers[0]]["t"] - 1e-3 * steps[numbers[0]].get("gang_ms", 0)
    bytes0, joules0 = _at(times, sent, began), _at(times, joules, began)
    if any(e.get("loss") is None for e in steps.values()):  # the edge's arithmetic is modelled: there is none
        return None
    curve = {"loss": [], "seconds": [], "bytes": [], "joules": []}
    for n in numbers:
        t = steps[n]["t"]
        curve["loss"].append(steps[n]["loss"])
        curve["seconds"].append(t - began)
        curve["bytes"].append(_at(times, sent, t) - bytes0)
        curve["joules"].append(_at(times, joules, t) - joules0)
    return curve


def thin(curve):
    """At most POINTS_MAX points, evenly, the last one kept; with the numbers of the steps."""
    n = len(curve["loss"])
    stride = -(-n // POINTS_MAX)
    kept = [i for i in range(n) if (n - 1 - i) % stride == 0]
    return {"step": [i + 1 for i in kept], **{k: [v[i] for i in kept] for k, v in curve.items()}}


def smooth(values, width):
    """Mean over the last `width` values: training losses differ from window to window."""
    return [sum(values[max(0, i + 1 - width):i + 1]) / min(width, i + 1) for i in range(len(values))]


def last(curve):
    return {k: curve[k][-1] for k in ("seconds", "bytes", "joules")} if curve else None
