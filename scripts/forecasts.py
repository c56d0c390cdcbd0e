"""Errors of what the edge foretold of its phones' steps (rules P9): of the events `profile` of a run's edge.jsonl."""
import collections


def quantile(values, q):
    values = sorted(values)
    at = q * (len(values) - 1)
    low = int(at)
    return values[low] + (at - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def summary(windows):
    out = {"windows": len(windows)}
    for key, unit in (("time", "s"), ("energy", "j")):
        errors = [w[f"predicted_{unit}"] / w[f"measured_{unit}"] - 1 for w in windows if w[f"measured_{unit}"] > 0]
        if errors:
            out[key] = {"median": quantile([abs(e) for e in errors], 0.5), "p90": quantile([abs(e) for e in errors], 0.9),
                        "bias": quantile(errors, 0.5)}
    for unit in ("s", "j"):
        out[f"measured_{unit}"] = quantile([w[f"measured_{unit}"] for w in windows], 0.5) if windows else None
    return out


def errors(events):
    """By class, of all, and of those predictions that were made for a cut before its first step."""
    windows = [e for e in events if e.get("event") == "profile"]
    by_class = collections.defaultdict(list)
    for w in windows:
        by_class[w["class"]].append(w)
    return {"all": summary(windows), "new_cut": summary([w for w in windows if w["changed"]]),
            "classes": {name: summary(found) for name, found in sorted(by_class.items())}}
