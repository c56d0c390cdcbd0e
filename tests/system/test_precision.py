#!/usr/bin/python3
"""bf16 arithmetic against f32: the same losses as nearly as bf16 allows, on real text, centrally and over the real path."""
import json
import subprocess

from harness import MODEL, TRAIN, Run, Skip, experiment, phone_class, run_tests

STEPS = 300
STEP_BOUND, BOUND = 5e-3, 5e-3  # of each step's loss, and of the mean over the last tenth: issue 4's 0.5 %
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def has_bf16():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        flags = f.read()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def mean(values):
    return sum(values) / len(values)


def train(precision):
    command = [TRAIN, "lora", "--model", MODEL, "--text", "/usr/share/games/fortunes", "--steps", str(STEPS), "--batch", "4", "--seq", "64",
               "--lr", "1e-3", "--targets", ",".join(TARGETS), "--precision", precision, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["losses"], done.stderr


def assert_like(narrow, wide, what):
    worst = max(abs(a / b - 1) for a, b in zip(narrow, wide))
    tail = abs(mean(narrow[-len(wide) // 10:]) / mean(wide[-len(wide) // 10:]) - 1)
    print(f"   {what}: {worst:.2g} in the worst step, {tail:.2g} in the mean of the last tenth")
    assert worst <= STEP_BOUND and tail <= BOUND, (what, worst, tail)
    assert worst > 1e-6, "the same losses: bf16 is not in use"


def test_central_training_in_bf16_follows_f32():
    if not has_bf16():
        raise Skip("a CPU with bf16 instructions")
    wide, _ = train("f32")
    narrow, said = train("bf16")
    assert "arithmetic: bf16" in said, said
    learnt = mean(wide[:10]) - mean(wide[-30:])
    print(f"   {learnt:.3f} nats learnt")
    assert learnt > 10 * BOUND * mean(wide[-30:]), "too little was learnt: the comparison proves nothing"
    assert_like(narrow, wide, "bf16 against f32")


OPTIONS = {"nothing": ({}, {}), "the stability term": ({"proximal_mu": 0.5}, {}), "FedProx": ({"fedprox_mu": 3.0}, {}),
           "clipping": ({}, {"clip": 0.02}), "warm-up": ({}, {"warmup": 20}),
           "all of them": ({"proximal_mu": 0.02, "fedprox_mu": 0.1}, {"clip": 0.2, "schedule": "cosine", "warmup": 5})}


def optioned(precision, training, optimizer):
    what = experiment(fleet=[phone_class("a"), phone_class("b")], plan={"cut": [2, 5]}, run={"steps": 40})
    what["training"].update(training)
    what["training"]["optimizer"].update(optimizer)
    what["model"]["precision"], what["edge"]["data"]["codec"] = precision, precision
    with Run(what) as r:
        r.run_both()
        return r.losses()


def test_term_clipping_and_warm_up_in_bf16_follow_f32():
    """Issue 6: the stability term, FedProx, clipping and warm-up, in bf16 as in f32, over the real path; each also changes something."""
    if not has_bf16():
        raise Skip("a CPU with bf16 instructions")
    without = {}
    for name, (training, optimizer) in OPTIONS.items():
        wide, narrow = (optioned(precision, training, optimizer) for precision in ("f32", "bf16"))
        if name == "nothing":
            without = {"f32": wide, "bf16": narrow}
        gap = max(abs(a - b) for a, b in zip(narrow, wide))
        effect = {p: max(abs(a - b) for a, b in zip(l, without[p])) for p, l in (("f32", wide), ("bf16", narrow))}
        print(f"   {name}: bf16 against f32 {gap:.2g}, with against without {effect['f32']:.2g} and {effect['bf16']:.2g}")
        assert name == "nothing" or min(effect.values()) > 3 * gap, f"{name} changes nothing that could be told from rounding"
        assert_like(narrow, wide, name)


def run(precision, codec, recompute=False):
    what = experiment(fleet=[phone_class("a"), phone_class("b")], plan={"cut": [2, 5]}, run={"steps": 60})
    what["model"]["precision"] = precision
    what["edge"]["data"]["codec"] = codec
    what["edge"]["recompute"] = recompute
    with Run(what) as r:
        edge, _ = r.run_both()
        said = [r.events(name, "start")[0]["precision"] for name in ("edge", "sim")]
        return r.losses(), r.adapter(), said, r.output(edge)


def test_a_run_in_bf16_follows_f32_and_repeats_itself():
    wide, _, _, _ = run("f32", "bf16")
    narrow, adapter, said, output = run("bf16", "bf16")
    if not has_bf16():  # then it is f32, and says so
        assert all(s.startswith("f32 (bf16 was asked for") for s in said) and "f32 (bf16 was asked for" in output, (said, output)
        assert narrow == wide
        return
    assert said == ["bf16", "bf16"], said
    assert_like(narrow, wide, "bf16 against f32, codec bf16")
    again, adapter_again, _, _ = run("bf16", "bf16", recompute=True)
    assert narrow == again and adapter == adapter_again, "a deterministic run in bf16 does not repeat itself, or not where it recomputes"


run_tests(globals())
