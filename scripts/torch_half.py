#!/usr/bin/python3
"""PyTorch's side of scripts/compare-torch: a LoRA training step of GPT-2's back half, a step for each line on stdin.

Written to be as fast as PyTorch's usual means allow: no gradient of a frozen weight is ever computed, LoRA is two thin products, one fused
projection for q, k and v, optimiser over all factors at once (foreach), the mask is made once, nothing is copied to numpy or printed in a step.
A line of JSON answers each line; the first answer comes when the warm-up is done."""
import argparse
import json
import math
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F

WARM_UP = 2
ADAMW = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}


class Linear(torch.nn.Module):
    """Frozen weight and bias, with factors A and B: W x + b + (alpha / rank) B A x."""

    def __init__(self, inputs, outputs, rank):
        super().__init__()
        self.weight = torch.nn.Parameter(0.02 * torch.randn(outputs, inputs), requires_grad=False)
        self.bias = torch.nn.Parameter(torch.zeros(outputs), requires_grad=False)
        bound = 1 / math.sqrt(inputs)
        self.lora_a = torch.nn.Parameter(torch.empty(rank, inputs).uniform_(-bound, bound))
        self.lora_b = torch.nn.Parameter(torch.zeros(outputs, rank))
        self.scale = 2.0  # alpha is twice the rank, as in sluice-bench train

    def forward(self, x):
        return F.linear(x, self.weight, self.bias) + F.linear(F.linear(x, self.lora_a), self.lora_b * self.scale)


class Block(torch.nn.Module):
    def __init__(self, d, d_ff, heads, rank):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(d), torch.nn.LayerNorm(d)
        self.attend, self.out = Linear(d, 3 * d, rank), Linear(d, d, rank)
        self.up, self.down = Linear(d, d_ff, rank), Linear(d_ff, d, rank)
        for norm in self.norm1, self.norm2:
            norm.requires_grad_(False)

    def forward(self, x, mask):
        batch, seq, d = x.shape
        q, k, v = self.attend(self.norm1(x)).view(batch, seq, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.matmul(q * (1 / math.sqrt(d // self.heads)), k.transpose(-2, -1)) + mask
        mixed = torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2).reshape(batch, seq, d)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Half(torch.nn.Module):
    def __init__(self, a):
        super().__init__()
        self.blocks = torch.nn.ModuleList(Block(a.d, a.d_ff, a.heads, a.rank) for _ in range(a.blocks))
        self.norm = torch.nn.LayerNorm(a.d).requires_grad_(False)
        self.head = torch.nn.Parameter(0.02 * torch.randn(a.vocab, a.d), requires_grad=False)

    def forward(self, x, mask, targets):
        for block in self.blocks:
            x = block(x, mask)
        logits = F.linear(self.norm(x), self.head)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=["f32", "autocast", "autocast-bf16-weights"], default="f32")
    for name, default in [("blocks", 6), ("d", 768), ("d-ff", 3072), ("heads", 12), ("vocab", 50257), ("batch", 4), ("seq", 128), ("rank", 8),
                          ("threads", 1)]:
        parser.add_argument("--" + name, type=int, default=default)
    return parser.parse_args()


def build(a):
    half = Half(a)
    if a.way == "autocast-bf16-weights":  # what autocast would convert anew in every step, because frozen weights are not in its cache
        for module in half.modules():
            if isinstance(module, Linear):
                module.weight.data, module.bias.data = module.weight.data.bfloat16(), module.bias.data.bfloat16()
        half.head.data = half.head.data.bfloat16()
    return half


def peak_memory_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    a = arguments()
    torch.manual_seed(1)
    torch.set_num_threads(a.threads)
    half = build(a)
    factors = [p for p in half.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(factors, foreach=True, **ADAMW)
    x = torch.randn(a.batch, a.seq, a.d, requires_grad=True)  # a phone waits for its gradient
    targets = torch.randint(a.vocab, (a.batch, a.seq))
    mask = torch.full((a.seq, a.seq), float("-inf")).triu(1)

    def step():
        began, cpu = time.perf_counter(), time.process_time()
        optimiser.zero_grad(set_to_none=True)
        x.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.way.startswith("autocast")):
            loss = half(x, mask, targets)
        loss.backward()
        optimiser.step()
        return time.perf_counter() - began, time.process_time() - cpu, loss

    for _ in range(WARM_UP):
        step()
    with open("/proc/self/maps", encoding="utf-8") as f:
        blas = sorted({os.path.basename(line.split()[-1]) for line in f if "blas" in line})
    print(json.dumps({"ready": True, "torch": torch.__version__, "blas": blas, "threads": torch.get_num_threads()}), flush=True)
    for _ in sys.stdin:
        seconds, cpu_seconds, loss = step()
        print(json.dumps({"ms": 1e3 * seconds, "cpu_ms": 1e3 * cpu_seconds, "loss": loss.item(), "peak_memory_bytes": peak_memory_bytes()}), flush=True)


if __name__ == "__main__":
    main()
