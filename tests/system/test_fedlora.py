#!/usr/bin/python3
"""sluice-train fedlora against computations that know nothing of it: central training, and averaging by hand."""
import json
import os
import shutil
import struct
import subprocess
import tempfile

import numpy

from harness import MODEL, TRAIN, run_tests, train_json

LORA = ["--rank", "4", "--alpha", "8", "--targets", "q_proj,v_proj,down_proj", "--seed", "3"]
SGD = ["--optimizer", "sgd", "--lr", "0.5"]
VOCAB = 2048


def write_windows(path, windows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(" ".join(map(str, w)) + "\n" for w in windows)


def material(work, phones, steps, seqs):
    """Windows of a learnable text: each phone repeats patterns of its own."""
    rng = numpy.random.default_rng(5)
    files, by_step = [], [[] for _ in range(steps)]
    for p in range(phones):
        pattern = rng.integers(1, VOCAB, 23)
        windows = [numpy.roll(numpy.tile(pattern, 8), -int(rng.integers(23)))[:seqs[p % len(seqs)]] for _ in range(steps)]
        for s, w in enumerate(windows):
            by_step[s].append(w)
        files.append(os.path.join(work, f"phone-{p}.ids"))
        write_windows(files[-1], windows)
    union = os.path.join(work, "union.ids")
    write_windows(union, [w for step in by_step for w in step])
    return files, union


def worst(ours, theirs):
    assert len(ours) == len(theirs) and ours, (len(ours), len(theirs))
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))


def tensors(directory):
    with open(os.path.join(directory, "adapter_model.safetensors"), "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    return {k: numpy.frombuffer(data[8 + n:][slice(*v["data_offsets"])], "<f4").astype("f8") for k, v in header.items() if k != "__metadata__"}


def replace_tensors(directory, values):
    """The same file with other numbers in it."""
    path = os.path.join(directory, "adapter_model.safetensors")
    with open(path, "rb") as f:
        data = bytearray(f.read())
    n = struct.unpack("<Q", data[:8])[0]
    for k, v in json.loads(data[8:8 + n]).items():
        if k != "__metadata__":
            begin, end = v["data_offsets"]
            data[8 + n + begin:8 + n + end] = values[k].astype("<f4").tobytes()
    with open(path, "wb") as f:
        f.write(data)


def test_one_phone_is_central_training():
    with tempfile.TemporaryDirectory(prefix="sluice-fed-") as work:
        files, _ = material(work, 1, 12, [32])
        a, b = os.path.join(work, "a"), os.path.join(work, "b")
        fed = train_json("fedlora", "--model", MODEL, "--ids", *files, "--every", "5", "--seq", "32", "--lr", "3e-3", *LORA, "--out", a)
        central = train_json("lora", "--model", MODEL, "--ids", *files, "--steps", "12", "--batch", "1", "--seq", "32", "--lr", "3e-3", *LORA, "--out", b)
        assert worst(fed["losses"], central["losses"]) <= 1e-6
        assert fed["rounds"] == 3 and central["losses"][-1] < central["losses"][0] - 0.1, central["losses"]
        for (k, x), y in zip(tensors(a).items(), tensors(b).values()):
            assert numpy.abs(x - y).max() <= 1e-6 * numpy.abs(y).max() + 1e-12, k


def test_sgd_averaged_every_step_is_central_training_on_the_union():
    """Rules L4, with phones of unequal lengths: a wrong weight would show."""
    for extra in [], ["--freeze-a"]:
        with tempfile.TemporaryDirectory(prefix="sluice-fed-") as work:
            files, union = material(work, 3, 10, [40, 17, 29])
            fed = train_json("fedlora", "--model", MODEL, "--ids", *files, "--every", "1", "--seq", "40", "--tails", *SGD, *LORA, *extra)
            central = train_json("lora", "--model", MODEL, "--ids", union, "--steps", "10", "--batch", "3", "--seq", "40", "--tails", *SGD, *LORA, *extra)
            assert worst(fed["losses"], central["losses"]) <= 1e-6, (fed["losses"], central["losses"])
            still = train_json("lora", "--model", MODEL, "--ids", union, "--steps", "10", "--batch", "3", "--seq", "40", "--tails", "--optimizer", "sgd",
                               "--lr", "1e-9", *LORA, *extra)
            assert worst(still["losses"], central["losses"]) > 1e-3, "nothing was learnt: the comparison proves nothing"
            later = train_json("fedlora", "--model", MODEL, "--ids", *files, "--every", "5", "--seq", "40", "--tails", *SGD, *LORA, *extra)
            assert worst(later["losses"], central["losses"]) > 1e-5, "averaging less often changes nothing: the comparison proves nothing"


def test_rounds_are_the_phones_own_training_averaged_by_hand():
    """Two rounds of three local SGD steps; each phone by sluice-train lora, the average by numpy."""
    with tempfile.TemporaryDirectory(prefix="sluice-fed-") as work:
        files, _ = material(work, 2, 6, [40, 17])
        out = os.path.join(work, "fed")
        fed = train_json("fedlora", "--model", MODEL, "--ids", *files, "--every", "3", "--seq", "40", "--tails", *SGD, *LORA, "--out", out)
        start, losses = None, numpy.zeros(6)
        tokens = [39, 16]
        for r in range(2):
            locals_ = []
            for p, name in enumerate(files):
                with open(name, encoding="utf-8") as f:
                    part = f.readlines()[3 * r:3 * r + 3]
                ids, adapter = os.path.join(work, f"{r}-{p}.ids"), os.path.join(work, f"{r}-{p}")
                with open(ids, "w", encoding="utf-8") as f:
                    f.writelines(part)
                begin = ["--adapter-in", start] if start else LORA
                alone = train_json("lora", "--model", MODEL, "--ids", ids, "--steps", "3", "--batch", "1", "--seq", "40", "--tails", *SGD, *begin, "--out", adapter)
                losses[3 * r:3 * r + 3] += tokens[p] * numpy.array(alone["losses"]) / sum(tokens)
                locals_.append(tensors(adapter))
            mean = {k: sum(t * x[k] for t, x in zip(tokens, locals_)) / sum(tokens) for k in locals_[0]}
            start = os.path.join(work, f"mean-{r}")
            shutil.copytree(os.path.join(work, f"{r}-0"), start)
            replace_tensors(start, mean)
        assert worst(fed["losses"], list(losses)) <= 1e-6, (fed["losses"], losses)
        for k, x in tensors(out).items():
            assert numpy.abs(x - mean[k]).max() <= 1e-5 * numpy.abs(mean[k]).max() + 1e-9, k


def test_costs_are_those_of_the_whole_model():
    """FLOPs by hand for the bundled model (Llama: 8 layers, d 192, 6 heads and 2 for k and v of 32, ff 512, vocabulary 2048)."""
    with tempfile.TemporaryDirectory(prefix="sluice-fed-") as work:
        files, _ = material(work, 2, 4, [33, 17])
        fed = train_json("fedlora", "--model", MODEL, "--ids", *files, "--every", "2", "--seq", "33", "--tails", "--lr", "1e-3", *LORA)
        d, kv, ff = 192, 64, 512
        weights = d * d * 2 + 2 * d * kv + 3 * d * ff
        for phone, rows in zip(fed["phones"], (32, 16)):
            pairs = rows * (rows + 1) / 2
            flop = 8 * (2 * 2 * rows * weights + 3 * 4 * pairs * d) + 2 * 2 * rows * d * VOCAB
            assert abs(phone["flop"] / (4 * flop) - 1) < 1e-12 and phone["tokens"] == 4 * rows and phone["steps"] == 4, (phone, 4 * flop)
        assert fed["adapter_bytes"] == 4 * 8 * 4 * (2 * d + d + kv + d + ff)


def test_mistakes_are_one_line():
    for extra, says in [(["--ids", "/nonexistent"], "/nonexistent"), ([], "--ids"), (["--ids", "/dev/null", "--every", "0"], "--every")]:
        done = subprocess.run([TRAIN, "fedlora", "--model", MODEL, "--seq", "16", "--lr", "1e-3", *extra], capture_output=True, text=True, check=False)
        assert done.returncode in (1, 2) and says in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


run_tests(globals())
