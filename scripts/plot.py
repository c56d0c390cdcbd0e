"""Line plots as SVG, without any package: a row or grid of panels that share a legend."""
import math
from xml.sax.saxutils import escape

# Okabe and Ito's palette, told apart by colour-blind readers too; dashes tell the lines apart in grey print.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
DASHES = ["", "7 4", "2 3", "9 3 2 3", "4 2", "1 2", "12 4"]
PANEL_W, PANEL_H = 430, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 30, 46  # of a panel: room for its labels
LEGEND_H = 34
LEGEND_STATES = 5  # of a timeline's legend in a line
FONT = 'font-family="Helvetica, Arial, sans-serif"'
TICKS_WANTED = 5


class Series:
    """One line: y over x; `low` and `high`, where given, are drawn as a band around it. `marks`: dots at the points."""

    def __init__(self, name, x, y, low=None, high=None, marks=False):
        self.name, self.x, self.y, self.low, self.high, self.marks = name, list(x), list(y), low, high, marks


class Panel:
    def __init__(self, title, x_label, y_label, series, log_x=False):
        self.title, self.x_label, self.y_label, self.series, self.log_x = title, x_label, y_label, series, log_x


def _nice_step(span):
    rough = span / TICKS_WANTED
    power = 10 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))


def _linear_ticks(low, high):
    step = _nice_step(high - low)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low, high):
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [10.0 ** d for d in decades]
    if len([t for t in ticks if low <= t <= high]) < 3:
        ticks = [m * 10.0 ** d for d in decades for m in (1, 2, 5)]
    return [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]


def number(v):
    """A tick's text: 0.05, 2.5, 300, 20k, 1.5M."""
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, None)):
        if abs(v) >= size:
            return f"{v / (size if suffix else 1e3):g}{suffix or 'k'}"
    return f"{v:.6g}"


class Timeline:
    """What each of several things was doing when: a row of coloured stretches for each. `rows`: (name, [(from, to, state), ...])."""
    series = ()

    def __init__(self, title, x_label, rows, states):
        self.title, self.x_label, self.rows, self.states = title, x_label, rows, states

    def draw(self, left, top):
        end = max((to for _, stretches in self.rows for _, to, _ in stretches), default=1)
        x0, y0, w, h = left + LEFT, top + TOP, PANEL_W - LEFT - RIGHT, PANEL_H - TOP - BOTTOM - 38
        out = [_text(x0 + w / 2, y0 - 10, self.title, size=13, extra='font-weight="bold"')]
        colour = {s: COLOURS[i % len(COLOURS)] for i, s in enumerate(self.states)}
        row_h = h / max(1, len(self.rows))
        for i, (name, stretches) in enumerate(self.rows):
            y = y0 + i * row_h
            out.append(_text(x0 - 6, y + row_h / 2 + 4, name, "end", 11))
            for begin, to, state in stretches:
                out.append(f'<rect x="{x0 + begin / end * w:.2f}" y="{y + 1:.1f}" width="{max(0.2, (to - begin) / end * w):.2f}" '
                           f'height="{max(1, row_h - 2):.1f}" fill="{colour[state]}"/>')
        for tick in _linear_ticks(0, end):
            x = x0 + tick / end * w
            out.append(_text(x, y0 + h + 16, number(tick), size=11))
        out.append(_text(x0 + w / 2, y0 + h + 34, self.x_label))
        at, line = x0 - 40, y0 + h + 50
        for i, state in enumerate(self.states):
            if i == LEGEND_STATES:
                at, line = x0 - 40, line + 14
            out.append(f'<rect x="{at}" y="{line - 9}" width="10" height="10" fill="{colour[state]}"/>')
            out.append(_text(at + 13, line, state, "start", 11))
            at += 24 + 6 * len(state)
        return out


class _Axes:
    """Data to pixels of one panel whose corner lies at (left, top)."""

    def __init__(self, panel, left, top):
        xs = [x for s in panel.series for x in s.x if not panel.log_x or x > 0]
        ys = [y for s in panel.series for band in (s.y, s.low or [], s.high or []) for y in band]
        self.log = panel.log_x
        self.x0, self.x1 = self._range(min(xs), max(xs), 0)
        self.y0, self.y1 = self._range(min(ys), max(ys), 0.05)
        self.left, self.top = left + LEFT, top + TOP
        self.w, self.h = PANEL_W - LEFT - RIGHT, PANEL_H - TOP - BOTTOM

    @staticmethod
    def _range(low, high, margin):
        if low == high:
            low, high = (low * 0.9, high * 1.1) if low > 0 else (low - 1, high + 1)
        return low - margin * (high - low), high + margin * (high - low)

    def x(self, v):
        if self.log:
            share = (math.log(v) - math.log(self.x0)) / (math.log(self.x1) - math.log(self.x0))
        else:
            share = (v - self.x0) / (self.x1 - self.x0)
        return self.left + share * self.w

    def y(self, v):
        return self.top + self.h - (v - self.y0) / (self.y1 - self.y0) * self.h


def _text(x, y, text, anchor="middle", size=12, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {FONT} fill="#222" {extra}>{escape(text)}</text>'


def _grid(axes, panel):
    out = []
    for tick in (_log_ticks if axes.log else _linear_ticks)(axes.x0, axes.x1):
        x = axes.x(tick)
        out.append(f'<line x1="{x:.1f}" y1="{axes.top}" x2="{x:.1f}" y2="{axes.top + axes.h}" stroke="#e2e2e2"/>')
        out.append(_text(x, axes.top + axes.h + 16, number(tick), size=11))
    for tick in _linear_ticks(axes.y0, axes.y1):
        y = axes.y(tick)
        out.append(f'<line x1="{axes.left}" y1="{y:.1f}" x2="{axes.left + axes.w}" y2="{y:.1f}" stroke="#e2e2e2"/>')
        out.append(_text(axes.left - 6, y + 4, number(tick), "end", 11))
    out.append(f'<rect x="{axes.left}" y="{axes.top}" width="{axes.w}" height="{axes.h}" fill="none" stroke="#888"/>')
    middle = axes.top + axes.h / 2
    out.append(_text(axes.left + axes.w / 2, axes.top - 10, panel.title, size=13, extra='font-weight="bold"'))
    out.append(_text(axes.left + axes.w / 2, axes.top + axes.h + 36, panel.x_label))
    out.append(_text(axes.left - 46, middle, panel.y_label, extra=f'transform="rotate(-90 {axes.left - 46:.1f} {middle:.1f})"'))
    return out


def _line(axes, series, colour, dash):
    kept = [i for i, x in enumerate(series.x) if not axes.log or x > 0]
    points = " ".join(f"{axes.x(series.x[i]):.1f},{axes.y(series.y[i]):.1f}" for i in kept)
    out = []
    if series.low:
        edge = [(series.x[i], series.high[i]) for i in kept] + [(series.x[i], series.low[i]) for i in reversed(kept)]
        band = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in edge)
        out.append(f'<polygon points="{band}" fill="{colour}" fill-opacity="0.16" stroke="none"/>')
    out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}" stroke-linejoin="round"/>')
    if series.marks or len(kept) == 1:
        out += [f'<circle cx="{axes.x(series.x[i]):.1f}" cy="{axes.y(series.y[i]):.1f}" r="3.2" fill="{colour}"/>' for i in kept]
    return out


def write(path, panels, columns=2):
    """Panels row by row. Lines of one name have one colour in all panels, and one entry in the legend."""
    names = list(dict.fromkeys(s.name for p in panels for s in p.series))
    style = {n: (COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]) for i, n in enumerate(names)}
    columns = min(columns, len(panels))
    width, height = columns * PANEL_W, LEGEND_H + -(-len(panels) // columns) * PANEL_H
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    at = LEFT
    for name in names:
        colour, dash = style[name]
        out.append(f'<line x1="{at}" y1="20" x2="{at + 34}" y2="20" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"/>')
        out.append(_text(at + 42, 24, name, "start"))
        at += 70 + 7 * len(name)
    for i, panel in enumerate(panels):
        if isinstance(panel, Timeline):
            out += panel.draw(i % columns * PANEL_W, LEGEND_H + i // columns * PANEL_H)
            continue
        axes = _Axes(panel, i % columns * PANEL_W, LEGEND_H + i // columns * PANEL_H)
        out += _grid(axes, panel)
        for series in panel.series:
            out += _line(axes, series, *style[series.name])
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(out + ["</svg>", ""]))
