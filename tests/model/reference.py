#!/usr/bin/python3
"""Golden losses, logits and gradients for tests/model/test_parity.c, from plain PyTorch in float64.

Run by hand where a model family or a case changes:  /usr/bin/python3 tests/model/reference.py tests/model/golden
The models are written here as Hugging Face's modelling files define them, without that library. Weights and token ids come
from the counter-based generator of trainer/tensor/rng.h, so a golden holds results only. The same run in float32 is
printed beside: how far PyTorch is from itself says what a tolerance can mean.

File format, little-endian: records of u32 length of the name, name, u32 count, f64 values where the name begins with
"loss" or "max", f32 otherwise.
"""
import math
import os
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

M64 = (1 << 64) - 1


def mix(z):
    z = np.asarray(z, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def key(seed, name):
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001B3) & M64
    return int(mix(int(mix(seed)) ^ h))


def u64(k, n):
    with np.errstate(over="ignore"):
        return mix(np.uint64(k) + (np.arange(n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


def uniform(k, n):
    return ((u64(k, n) >> np.uint64(40)).astype(np.int64) - (1 << 23)).astype(np.float32) * np.float32(2.0**-23)


def token_ids(seed, name, vocab, n):
    return ((u64(key(seed, name), n) >> np.uint64(33)).astype(np.int64) % vocab)


def fixture(seed, name, shape):
    """The weights of tests/model/fixture.c."""
    u = uniform(key(seed, name), int(np.prod(shape)))
    if len(shape) == 2:
        return (np.float32(1.7 / math.sqrt(shape[1])) * u).reshape(shape)
    base = np.float32(0 if name.endswith(".bias") else 1)
    return (base + np.float32(0.3) * u).reshape(shape)


class Llama:
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

    def __init__(self, c):
        self.c = c

    def shapes(self):
        c = self.c
        d, q, kv, ff = c["d"], c["heads"] * c["hd"], c["kv"] * c["hd"], c["ff"]
        s = {"model.embed_tokens.weight": (c["vocab"], d)}
        for i in range(c["layers"]):
            p = f"model.layers.{i}."
            s[p + "input_layernorm.weight"] = (d,)
            s[p + "self_attn.q_proj.weight"] = (q, d)
            s[p + "self_attn.k_proj.weight"] = (kv, d)
            s[p + "self_attn.v_proj.weight"] = (kv, d)
            s[p + "self_attn.o_proj.weight"] = (d, q)
            s[p + "post_attention_layernorm.weight"] = (d,)
            s[p + "mlp.gate_proj.weight"] = (ff, d)
            s[p + "mlp.up_proj.weight"] = (ff, d)
            s[p + "mlp.down_proj.weight"] = (d, ff)
        s["model.norm.weight"] = (d,)
        if not c["tied"]:
            s["lm_head.weight"] = (c["vocab"], d)
        return s

    def modules(self):
        """(layer, index in enum sl_target, module path, in, out) of every linear layer."""
        s = self.shapes()
        for i in range(self.c["layers"]):
            for t, name in enumerate(self.targets):
                path = f"model.layers.{i}.{'self_attn' if t < 4 else 'mlp'}.{name}"
                out, inn = s[path + ".weight"]
                yield i, t, path, inn, out

    def forward(self, w, lora, ids):
        c, T = self.c, len(ids)
        dtype = w["model.embed_tokens.weight"].dtype
        hd = c["hd"]
        inv = 1.0 / (10000.0 ** (torch.arange(0, hd, 2, dtype=torch.int64).float() / hd))
        angle = torch.outer(torch.arange(T).float(), inv)  # f32, as Hugging Face computes it
        angle = torch.cat((angle, angle), -1)
        cos, sin = angle.double().cos().float().to(dtype), angle.double().sin().float().to(dtype)

        def rms(x, name):
            return w[name] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))

        def linear(x, path):
            y = x @ w[path + ".weight"].T
            if path in lora:
                a, b, scale = lora[path]
                y = y + (x @ a.T) @ b.T * scale
            return y

        def rotate(x):
            half = torch.cat((-x[..., hd // 2:], x[..., :hd // 2]), -1)
            return x * cos + half * sin

        x = w["model.embed_tokens.weight"][ids]
        for i in range(c["layers"]):
            p = f"model.layers.{i}."
            h = rms(x, p + "input_layernorm.weight")
            q = linear(h, p + "self_attn.q_proj").view(T, c["heads"], hd).transpose(0, 1)
            k = linear(h, p + "self_attn.k_proj").view(T, c["kv"], hd).transpose(0, 1)
            v = linear(h, p + "self_attn.v_proj").view(T, c["kv"], hd).transpose(0, 1)
            group = c["heads"] // c["kv"]
            k = rotate(k).repeat_interleave(group, 0)
            v = v.repeat_interleave(group, 0)
            x = x + linear(attention(rotate(q), k, v), p + "self_attn.o_proj")
            h = rms(x, p + "post_attention_layernorm.weight")
            x = x + linear(F.silu(linear(h, p + "mlp.gate_proj")) * linear(h, p + "mlp.up_proj"), p + "mlp.down_proj")
        head = w["model.embed_tokens.weight"] if c["tied"] else w["lm_head.weight"]
        return rms(x, "model.norm.weight") @ head.T


class Gpt2:
    targets = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]

    def __init__(self, c):
        self.c = c

    def shapes(self):
        c = self.c
        d, ff = c["d"], c["ff"]
        s = {"transformer.wte.weight": (c["vocab"], d), "transformer.wpe.weight": (c["positions"], d)}
        for i in range(c["layers"]):
            p = f"transformer.h.{i}."
            for name, inn, out in (("ln_1", 0, d), ("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("ln_2", 0, d),
                                   ("mlp.c_fc", d, ff), ("mlp.c_proj", ff, d)):
                s[p + name + ".weight"] = (inn, out) if inn else (out,)
                s[p + name + ".bias"] = (out,)
        s["transformer.ln_f.weight"] = (d,)
        s["transformer.ln_f.bias"] = (d,)
        if not c["tied"]:
            s["lm_head.weight"] = (c["vocab"], d)
        return s

    def modules(self):
        s = self.shapes()
        for i in range(self.c["layers"]):
            for t, name in enumerate(self.targets):
                path = f"transformer.h.{i}.{name}"
                inn, out = s[path + ".weight"]
                yield i, 7 + t, path, inn, out

    def forward(self, w, lora, ids):
        c, T, d = self.c, len(ids), self.c["d"]

        def norm(x, name):
            return F.layer_norm(x, (d,), w[name + ".weight"], w[name + ".bias"], 1e-5)

        def conv1d(x, path):
            y = x @ w[path + ".weight"] + w[path + ".bias"]
            if path in lora:
                a, b, scale = lora[path]
                y = y + (x @ a.T) @ b.T * scale
            return y

        x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][:T]
        for i in range(c["layers"]):
            p = f"transformer.h.{i}."
            qkv = conv1d(norm(x, p + "ln_1"), p + "attn.c_attn").view(T, 3, c["heads"], c["hd"]).permute(1, 2, 0, 3)
            x = x + conv1d(attention(*qkv), p + "attn.c_proj")
            h = conv1d(norm(x, p + "ln_2"), p + "mlp.c_fc")
            h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
            x = x + conv1d(h, p + "mlp.c_proj")
        head = w["transformer.wte.weight"] if c["tied"] else w["lm_head.weight"]
        return norm(x, "transformer.ln_f") @ head.T


def attention(q, k, v):
    T = q.shape[1]
    s = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    s = s.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), float("-inf"))
    return (F.softmax(s, -1) @ v).transpose(0, 1).reshape(T, -1)


# The same table is in test_parity.c.
CASES = {
    "llama_8_4_untied": dict(family=Llama, layers=2, d=56, heads=8, kv=4, hd=14, ff=80, vocab=61, tied=False,
                             positions=160, lens=[1, 7, 61, 129], targets=[0, 1, 2, 3, 4, 5, 6]),
    "llama_6_2_tied": dict(family=Llama, layers=3, d=48, heads=6, kv=2, hd=16, ff=64, vocab=61, tied=True,
                           positions=160, lens=[129, 7], targets=[0, 1, 2, 3, 4, 5, 6]),
    "llama_wide_heads": dict(family=Llama, layers=2, d=64, heads=2, kv=1, hd=64, ff=96, vocab=61, tied=True,
                             positions=160, lens=[61, 1], targets=[0, 2, 6]),
    "gpt2_tied": dict(family=Gpt2, layers=2, d=56, heads=4, kv=4, hd=14, ff=224, vocab=61, tied=True,
                      positions=160, lens=[1, 7, 61, 129], targets=[7, 8, 9, 10]),
    "gpt2_untied": dict(family=Gpt2, layers=2, d=64, heads=1, kv=1, hd=64, ff=256, vocab=61, tied=False,
                        positions=160, lens=[61, 7], targets=[7, 10]),
}
SEED, RANK, ALPHA, STEPS = 11, 4, 8.0, 20
STEP_LENS = [7, 61]
ADAMW = dict(lr=4e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
SGD_LR = 0.02


def batch(c, name, lens):
    n = sum(lens)
    ids = torch.from_numpy(token_ids(SEED, name, c["vocab"], n))
    targets = torch.from_numpy(token_ids(SEED, name + ".targets", c["vocab"], n))
    return list(zip(ids.split(lens), targets.split(lens)))


class Run:
    """One model in one precision, with or without adapters."""

    def __init__(self, c, dtype, with_lora):
        self.c, self.model = c, c["family"](c)
        def leaf(a):
            return torch.from_numpy(a).to(dtype).requires_grad_()
        self.w = {n: leaf(fixture(SEED, n, s)) for n, s in self.model.shapes().items()}
        self.factors, self.lora = {}, {}
        for layer, t, path, inn, out in self.model.modules() if with_lora else ():
            if t not in c["targets"]:
                continue
            bound = np.float32(1) / np.sqrt(np.float32(inn))
            a = leaf((bound * uniform(key(SEED, f"base_model.model.{path}.lora_A.weight"), RANK * inn)).reshape(RANK, inn))
            b = leaf((np.float32(0.1) * uniform(key(SEED, f"B.{layer}.{t}"), out * RANK)).reshape(out, RANK))
            self.factors[f"A.{layer}.{t}"], self.factors[f"B.{layer}.{t}"] = a, b
            self.lora[path] = (a, b, ALPHA / RANK)
        self.trained = self.factors if with_lora else self.w

    def losses(self, seqs):
        logits = [self.model.forward(self.w, self.lora, ids) for ids, _ in seqs]
        nll = [F.cross_entropy(x, t, reduction="sum") for x, (_, t) in zip(logits, seqs)]
        return nll, torch.cat(logits)

    def gradients(self, seqs):
        nll, logits = self.losses(seqs)
        sum(nll).backward()
        grads = {n: p.grad.detach().clone() for n, p in self.trained.items()}
        for p in self.trained.values():
            p.grad = None
        return [x.item() for x in nll], logits.detach(), grads

    def train(self, optimizer):
        out = []
        for s in range(STEPS):
            nll, _ = self.losses(batch(self.c, f"step.{s}", STEP_LENS))
            loss = sum(nll) / sum(STEP_LENS)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            out.append(loss.item())
        return out


def evaluate(c, dtype):
    out = {}
    for kind in ("full", "lora"):
        run = Run(c, dtype, kind == "lora")
        nll, logits, grads = run.gradients(batch(c, "batch", c["lens"]))
        rows = sorted({0, 1, len(logits) // 2, len(logits) - 1})
        out[f"loss.{kind}"] = nll
        out[f"max.{kind}"] = [logits.abs().max().item()]
        out[f"logits.{kind}"] = logits[rows].flatten().tolist()
        for n, g in grads.items():
            out[f"grad.{kind}.{n}"] = g.flatten().numpy()
        out[f"loss.{kind}.adamw"] = run.train(torch.optim.AdamW(run.trained.values(), **ADAMW))
        run = Run(c, dtype, kind == "lora")
        out[f"loss.{kind}.sgd"] = run.train(torch.optim.SGD(run.trained.values(), lr=SGD_LR))
    return out


def compare(a, b):
    worst = {"loss": 0.0, "steps": 0.0, "logits": 0.0, "grad": 0.0}
    for n in b:
        x, y = np.asarray(a[n], dtype=np.float64), np.asarray(b[n], dtype=np.float64)
        if n.startswith("loss"):
            kind, err = ("steps" if n.count(".") == 2 else "loss"), np.max(np.abs(x / y - 1))
        elif n.startswith("logits"):
            kind, err = "logits", np.max(np.abs(x - y)) / b["max" + n[6:]][0]
        elif n.startswith("grad"):
            kind, err = "grad", np.linalg.norm(x - y) / np.linalg.norm(y)
        else:
            continue
        worst[kind] = max(worst[kind], err)
    return worst


def main(folder):
    torch.set_num_threads(1)
    os.makedirs(folder, exist_ok=True)
    for name, c in CASES.items():
        golden = evaluate(c, torch.float64)
        worst = compare(evaluate(c, torch.float32), golden)
        print(name, "float32 against float64:", ", ".join(f"{k} {v:.1e}" for k, v in worst.items()))
        with open(os.path.join(folder, name + ".bin"), "wb") as f:
            for n, values in golden.items():
                dtype = "<f8" if n.startswith(("loss", "max")) else "<f4"
                data = np.asarray(values, dtype=dtype)
                f.write(struct.pack("<I", len(n)) + n.encode() + struct.pack("<I", data.size) + data.tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
