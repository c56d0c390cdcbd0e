"""RUN/traffic.jsonl drawn: load, rate, round trips, queues, batteries, states; and the traffic beside the record that drove its link."""
import json
import os

import plot

POINTS_MAX = 600  # of a line: more than a panel has pixels
DRAWN_MAX = 4  # phones, unless asked for others
UNDER_WAY_S = 0.2  # that a packet may be between its service and its arrival, at most, before a comparison calls it too many


class Bad(Exception):
    """One line for the user."""


class Traffic:
    """The last part of a traffic.jsonl: header and samples. Times in seconds since the part's start."""

    def __init__(self, run_dir):
        self.path = os.path.join(run_dir, "traffic.jsonl")
        self.head, self.samples = None, []
        if not os.path.exists(self.path):
            raise Bad(f"{self.path}: no such file; give the directory of a run that sluice-sim has written")
        with open(self.path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                if not line.endswith("\n"):  # torn by a kill
                    break
                try:
                    event = json.loads(line)
                    if event.get("event") == "start":
                        self.head, self.samples = event, []
                    elif event["dt"] > 0:
                        self.samples.append(event)
                except (ValueError, KeyError) as error:
                    raise Bad(f"{self.path}:{number}: not a line that sluice-sim writes") from error
        if not self.head or not self.samples:
            raise Bad(f"{self.path}: no samples; the run ended before the first one")

    def phones(self):
        return [p["index"] for p in self.head["phones"]]

    def choose(self, wanted):
        """Places of the phones to be drawn: those asked for, or the first of each class, then more of them."""
        if wanted:
            missing = [i for i in wanted if i not in self.phones()]
            if missing:
                raise Bad(f"phone {missing[0]} is not one of those that were watched: {', '.join(map(str, self.phones()))}")
            return [self.phones().index(i) for i in wanted]
        classes = [p["class"] for p in self.head["phones"]]
        firsts = [classes.index(c) for c in dict.fromkeys(classes)]
        return sorted((firsts + [k for k in range(len(classes)) if k not in firsts])[:max(DRAWN_MAX, min(len(firsts), 7))])

    def name(self, k):
        p = self.head["phones"][k]
        return f"{p['class']} {p['index']}"

    def steps(self, seconds):
        """The samples in groups of about so long: (end, length, group)."""
        group, length = [], 0
        for s in self.samples:
            group.append(s)
            length += s["dt"]
            if length >= seconds - 1e-9:
                yield s["t"], length, group
                group, length = [], 0
        if group:
            yield group[-1]["t"], length, group

    def step(self):
        return max(0.5, self.samples[-1]["t"] / POINTS_MAX)


def rate_series(traffic, k, side, column, name):
    x, y = [], []
    for t, length, group in traffic.steps(traffic.step()):
        x.append(t)
        y.append(sum(s[side][column][k] for s in group) * 8e-6 / length)
    return plot.Series(name, x, y)


def value_series(traffic, name, value, keep=lambda v: True):
    x, y = [], []
    for t, _, group in traffic.steps(traffic.step()):
        values = [v for v in (value(s) for s in group) if keep(v)]
        if values:
            x.append(t)
            y.append(max(values))
    return plot.Series(name, x or [0], y or [0])


def stretches(traffic, k, key, names):
    out, begin, state = [], 0, None
    for s in traffic.samples:
        now = names[ord(s[key][k]) - ord("0")]
        if now != state:
            if state is not None:
                out.append((begin, last, state))
            begin, state = (last if out else 0), now
        last = s["t"]
    return out + [(begin, last, state)]


def timeline(traffic, chosen, key, names, title):
    rows = [(traffic.name(k), stretches(traffic, k, key, names)) for k in chosen]
    used = {state for _, row in rows for _, _, state in row}
    return plot.Timeline(title, "seconds", rows, [n for n in names if n in used])


def cell_timeline(traffic, chosen):
    rows = []
    for k in chosen:
        row = []
        for s in traffic.samples:
            cell = f"cell {s['cells']['cell'][k]}"
            if row and row[-1][2] == cell:
                row[-1] = (row[-1][0], s["t"], cell)
            else:
                row.append((row[-1][1] if row else 0, s["t"], cell))
        rows.append((traffic.name(k), row))
    used = sorted({state for _, row in rows for _, _, state in row}, key=lambda name: int(name.split()[1]))
    return plot.Timeline("cells", "seconds", rows, used)


def fleet_panel(traffic):
    up, down, x, length, sums = [], [], [], 0, [0, 0]
    for s in traffic.samples:
        length += s["dt"]
        if "all" in s:
            sums = [sums[0] + s["all"]["sent_up"], sums[1] + s["all"]["arrived_down"]]
            if length >= traffic.step() - 1e-9:
                x.append(s["t"])
                up.append(sums[0] * 8e-6 / length)
                down.append(sums[1] * 8e-6 / length)
                length, sums = 0, [0, 0]
    return plot.Panel("fleet", "seconds", "Mbit/s", [plot.Series("sent up", x or [0], up or [0]), plot.Series("arrived down", x or [0], down or [0])])


def comparison(traffic, k, side):
    """Delivered in each second beside what the record let through: (panel, share, seconds over), or None where the link has no record."""
    if traffic.head["phones"][k].get("link") not in ("trace", "series"):
        return None
    x, allowed, carried, over, before = [], [], [], 0, []
    for t, length, group in traffic.steps(1):
        x.append(t)
        allowed.append(sum(s[side]["allowed"][k] for s in group) * 8e-6 / length)
        carried.append(sum(s[side]["carried"][k] for s in group) * 8e-6 / length)
        # What arrives at the beginning of a second may have been served before it: propagation, and samples' edges.
        earlier = sum(s[side]["allowed"][k] for s in before if s["t"] > group[0]["t"] - group[0]["dt"] - UNDER_WAY_S)
        over += carried[-1] * length > allowed[-1] * length + (earlier + 1500) * 8e-6
        before = group
    name = traffic.name(k)
    panel = plot.Panel(f"{name}, {side}: the record and its traffic", "seconds", "Mbit/s",
                       [plot.Series("record allows", x, allowed), plot.Series("carried", x, carried)])
    return panel, sum(carried) / max(sum(allowed), 1e-12), over


def panels(run_dir, wanted):
    """All of them, and lines of text about the comparison with records."""
    traffic = Traffic(run_dir)
    chosen = traffic.choose(wanted)
    out, told = [fleet_panel(traffic)], []
    for side in ("up", "down"):
        out.append(plot.Panel(f"{side}: carried", "seconds", "Mbit/s", [rate_series(traffic, k, side, "carried", traffic.name(k)) for k in chosen]))
    first = chosen[0]
    out.append(plot.Panel(f"{traffic.name(first)}, up", "seconds", "Mbit/s",
                          [rate_series(traffic, first, "up", c, n) for c, n in (("offered", "offered"), ("carried", "carried"))]))
    for side in ("up", "down"):
        allowed = [k for k in chosen if all(s[side]["allowed"][k] >= 0 for s in traffic.samples)]
        if allowed:
            out.append(plot.Panel(f"{side}: what the link could carry", "seconds", "Mbit/s",
                                  [rate_series(traffic, k, side, "allowed", traffic.name(k)) for k in allowed]))
    out.append(plot.Panel("round trip, smoothed", "seconds", "ms",
                          [value_series(traffic, traffic.name(k), lambda s, k=k: s["rtt_ms"][k], lambda v: v > 0) for k in chosen]))
    for side in ("up", "down"):
        out.append(plot.Panel(f"{side}: queue, longest", "seconds", "KiB",
                              [value_series(traffic, traffic.name(k), lambda s, k=k: s[side]["queued"][k] / 1024) for k in chosen]))
        out.append(plot.Panel(f"{side}: time in the queue", "seconds", "ms",
                              [value_series(traffic, traffic.name(k), lambda s, k=k: s[side]["wait_ms"][k], lambda v: v >= 0) for k in chosen]))
    out.append(plot.Panel("battery", "seconds", "%", [value_series(traffic, traffic.name(k), lambda s, k=k: 100 * s["battery"][k]) for k in chosen]))
    out.append(plot.Panel("chip", "seconds", "°C", [value_series(traffic, traffic.name(k), lambda s, k=k: s["temp_c"][k]) for k in chosen]))
    out.append(timeline(traffic, chosen, "state", traffic.head["states"], "phones"))
    out.append(timeline(traffic, chosen, "radio", traffic.head["radios"], "radios"))
    in_cells = [k for k in chosen if traffic.head["phones"][k].get("link") == "granted"]
    if in_cells:
        out.append(cell_timeline(traffic, in_cells))
        for side in ("up", "down"):
            out.append(plot.Panel(f"{side}: SNR, without fading", "seconds", "dB",
                                  [value_series(traffic, traffic.name(k), lambda s, k=k: s["cells"][f"snr_{side}_db"][k]) for k in in_cells]))
    for k in chosen:
        for side in ("up", "down"):
            found = comparison(traffic, k, side)
            if found:
                panel, share, over = found
                out.append(panel)
                told.append(f"{traffic.name(k)}, {side}: {100 * share:.1f} % of what its record allows was carried; "
                            f"seconds with more than that: {over}")
    return out, told


def draw(run_dir, path, wanted=()):
    """Writes the SVG; returns what is to be said about it."""
    found, told = panels(run_dir, list(wanted))
    plot.write(path, found, columns=3)
    return told
