#!/usr/bin/python3
"""Value and gradients of the stability term, from PyTorch's autograd in float64, for tests/model/test_proximal.c. Printed as a C header:

  /usr/bin/python3 tests/model/proximal_golden.py > tests/model/golden/proximal.h

The product B A is formed here, and differentiated by autograd; nothing of trainer/model/proximal.c is."""
import torch

IN, OUT, RANK, ALPHA, STRENGTH, TOKENS = 6, 5, 3, 4.5, 0.7, 11.0


def numbers(name, t):
    flat = ", ".join(repr(float(x)) for x in t.flatten())
    print(f"static const double {name}[] = {{{flat}}};")


def main():
    a = torch.tensor([[((7 * i + 3 * k) % 11 - 5) / 8 for k in range(IN)] for i in range(RANK)], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[((5 * o + 2 * i) % 13 - 6) / 16 for i in range(RANK)] for o in range(OUT)], dtype=torch.float64, requires_grad=True)
    value = STRENGTH * ((ALPHA / RANK) * b @ a).square().sum()
    (TOKENS * value).backward()
    print("/* Made by tests/model/proximal_golden.py. */\n// clang-format off")
    print(f"static const double golden_value = {float(value)!r};")
    numbers("golden_grad_a", a.grad)
    numbers("golden_grad_b", b.grad)


main()
