#!/usr/bin/python3
"""Training in every codec, over the real path: the loss falls as in bf16, the traffic halves, nothing is refused."""
from harness import Run, central, experiment, phone_class, run_tests

STEPS = 100
START, START_BOUND = 5, 2e-3    # relative difference of a step's loss at the start: bf16's bound (rules L6) is a quarter of it
TAIL, TAIL_BOUND = 30, 5e-3     # of the mean over the last steps: bf16's own bound


def train(codec, reference=False):
    """Losses, bytes up and down, the edge's last word; for reference those of central training in f32, and of no training at all, on the
    same windows."""
    what = experiment(fleet=[phone_class("a"), phone_class("b")], plan={"cut": [2, 5]}, run={"steps": STEPS})
    what["data"]["seq"] = 48
    what["edge"]["data"]["codec"] = codec
    with Run(what) as run:
        run.run_both()
        phones, edge = run.events("sim", "phone"), run.events("edge", "end")[0]
        assert run.events("edge", "start")[0]["codec"] == codec
        traffic = sum(p["bytes_up"] for p in phones), sum(p["bytes_down"] for p in phones)
        references = (central(run), central(run, lr=1e-12)) if reference else ()
        return run.losses(), traffic, edge, *references


def mean(losses):
    return sum(losses) / len(losses)


def assert_like(losses, reference, what):
    start = max(abs(a - b) / b for a, b in zip(losses[:START], reference[:START]))
    tail = abs(mean(losses[-TAIL:]) - mean(reference[-TAIL:])) / mean(reference[-TAIL:])
    print(f"   {what}: {start:.2g} at the start, {tail:.2g} in the last {TAIL} steps")
    assert start <= START_BOUND and tail <= TAIL_BOUND, (what, start, tail)


def test_every_codec_trains_alike():
    bf16, wide, _, expected, untrained = train("bf16", reference=True)
    learnt = mean(untrained[-TAIL:]) - mean(bf16[-TAIL:])
    print(f"   bf16: {learnt:.3f} nats learnt; int8 may differ by {TAIL_BOUND * mean(bf16[-TAIL:]):.3f}")
    assert learnt > 3 * TAIL_BOUND * mean(bf16[-TAIL:]), "too little was learnt: the comparison proves nothing"
    seen = {}
    for codec in ("int8", "int8+lz4"):
        losses, narrow, edge = train(codec)
        assert len(losses) == STEPS
        assert losses != bf16, "it changed nothing: it is not in use"
        assert_like(losses, bf16, f"{codec} against bf16")
        assert_like(losses, expected, f"{codec} against central training")
        up, down = (n / w for n, w in zip(narrow, wide))
        print(f"   {codec}: {up:.3f} of bf16's bytes up, {down:.3f} down")
        assert up < 0.6 and down < 0.6, (up, down)
        assert edge["drops"].get("bad_coding", 0) == 0, edge["drops"]
        seen[codec] = losses
    assert seen["int8"] == seen["int8+lz4"], "compression is lossless: deterministic runs are the same"


run_tests(globals())
