#!/usr/bin/python3
"""Golden results of the kernels for tests/tensor/test_golden.c, from PyTorch in float64 with its own backward pass.

Run by hand where a kernel's definition or a case changes:  /usr/bin/python3 tests/tensor/reference.py tests/tensor/golden
Inputs come from the counter-based generator of trainer/tensor/rng.h, rounded to bf16, so that one golden serves both
storages. The file holds every STRIDE-th value of each result, in the format of tests/model/reference.py.
"""
import os
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "model"))
from reference import key, uniform  # noqa: E402
from reference import token_ids  # noqa: E402

STRIDE = 7
# The same tables are in test_golden.c.
ATTENTION = {  # heads, key/value heads, head size, rows, theta of RoPE or 0
    "attention_32_1": (1, 1, 32, 1, 0),
    "attention_40_7": (4, 2, 40, 7, 10000),
    "attention_64_61": (6, 2, 64, 61, 0),
    "attention_80_129": (2, 1, 80, 129, 10000),
    "attention_128_129": (1, 1, 128, 129, 0),
}
ROWS = {"rows_1": (1, 61), "rows_7": (7, 64), "rows_129": (129, 40)}
LOSS = {"head_1": (1, 48, 1009), "head_7": (7, 61, 333), "head_129": (129, 32, 1009)}


def data(name, shape, scale):
    x = np.float32(scale) * uniform(key(1, name), int(np.prod(shape)))
    return torch.from_numpy(x).bfloat16().double().reshape(shape).requires_grad_(True)


def turn(x, theta):
    """Hugging Face's rotation of x [heads, rows, head], with its angles in float32."""
    head, rows = x.shape[-1], x.shape[-2]
    exponent = (np.arange(0, head, 2).astype(np.float32) / np.float32(head)).astype(np.float64)
    inverse = np.float32(1) / (np.float64(theta) ** exponent).astype(np.float32)
    angle = (np.arange(rows, dtype=np.float32)[:, None] * inverse[None, :]).astype(np.float64)
    cos, sin = (torch.from_numpy(f(angle).astype(np.float32)).double().repeat(1, 2) for f in (np.cos, np.sin))
    a, b = x[..., : head // 2], x[..., head // 2 :]
    return x * cos + torch.cat([-b, a], -1) * sin


def attention(heads, kv, head, rows, theta):
    qkv, dout = data("qkv", (rows, (heads + 2 * kv) * head), 2), data("dout", (rows, heads * head), 1)
    q, k, v = qkv.reshape(rows, heads + 2 * kv, head).transpose(0, 1).split([heads, kv, kv])
    if theta:
        q, k = turn(q, theta), turn(k, theta)
    k, v = (t.repeat_interleave(heads // kv, 0) for t in (k, v))
    scores = q @ k.transpose(1, 2) / head**0.5
    scores = scores.masked_fill(torch.ones(rows, rows).triu(1).bool(), float("-inf"))
    out = (scores.softmax(-1) @ v).transpose(0, 1).reshape(rows, heads * head)
    out.backward(dout.detach())
    yield "out", out
    yield "dqkv", qkv.grad


def over_rows(rows, d):
    w, b = data("w", (d,), 1), data("b", (d,), 1)
    for kind in "layer", "rms":
        x, dy = data("x", (rows, d), 2), data("dy", (rows, d), 1)
        if kind == "layer":
            y = F.layer_norm(x, (d,), w, b, 1e-5)
        else:
            y = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * w
        y.backward(dy.detach())
        yield kind, y
        yield "d" + kind, x.grad
    x, dy = data("up", (rows, d), 6), data("dy", (rows, d), 1)
    y = F.gelu(x, approximate="tanh")
    y.backward(dy.detach())
    yield "gelu", y
    yield "dgelu", x.grad
    x = data("gate_up", (rows, 2 * d), 6)
    y = F.silu(x[:, :d]) * x[:, d:]
    y.backward(dy.detach())
    yield "swiglu", y
    yield "dswiglu", x.grad


def head_loss(rows, d, vocab):
    x, w = data("x", (rows, d), 3), data("head", (vocab, d), 0.8)
    loss = F.cross_entropy(x @ w.T, torch.from_numpy(token_ids(1, "targets", vocab, rows)), reduction="none")
    loss.sum().backward()
    yield "nll", loss
    yield "dx", x.grad


def main(folder):
    torch.set_num_threads(1)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "kernels.bin"), "wb") as f:
        for table, make in (ATTENTION, attention), (ROWS, over_rows), (LOSS, head_loss):
            for case, shape in table.items():
                for what, values in make(*shape):
                    n = f"{case}.{what}"
                    v = values.detach().numpy().reshape(-1)[::STRIDE].astype("<f4")
                    f.write(struct.pack("<I", len(n)) + n.encode() + struct.pack("<I", v.size) + v.tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
