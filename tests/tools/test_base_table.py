#!/usr/bin/python3
"""The n-gram baselines of scripts/base-table: they sum to one, and agree with Kneser-Ney written down word by word.
usage: test_base_table.py SOURCE_ROOT"""
import importlib.machinery
import importlib.util
import math
import os
import sys

try:
    import numpy as np
except ImportError:
    print('SKIP: python3-numpy is not installed')
    sys.exit(77)

VOCAB = 60


def load(root):
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader('base_table', os.path.join(root, 'scripts/base-table'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('base_table', loader))
    loader.exec_module(module)
    return module


def discounts(counts):
    """Chen and Goodman 1998, equation 26."""
    n = [sum(1 for c in counts.values() if c == k) for k in (1, 2, 3, 4)]
    y = n[0] / (n[0] + 2 * n[1])
    return [0, 1 - 2 * y * n[1] / n[0], 2 - 3 * y * n[2] / n[1], 3 - 4 * y * n[3] / n[2]]


def naive(counts, context, word, below):
    """Interpolated, one order; counts maps (*context, word) to a count."""
    seen = {key[-1]: c for key, c in counts.items() if key[:-1] == context}
    if not seen:
        return below
    d, total = discounts(counts), sum(seen.values())
    left = sum(d[min(c, 3)] for c in seen.values()) / total
    c = seen.get(word, 0)
    return (c - d[min(c, 3)]) / total + left * below


def main():
    table = load(sys.argv[1])
    rng = np.random.default_rng(3)
    train = rng.zipf(1.4, 900) % VOCAB
    three, two, one = {}, {}, {}
    for key in zip(train, train[1:], train[2:]):
        three[tuple(map(int, key))] = three.get(tuple(map(int, key)), 0) + 1
    for key in three:
        two[key[1:]] = two.get(key[1:], 0) + 1
    for key in two:
        one[key[1:]] = one.get(key[1:], 0) + 1
    trigram = table.Trigram([train], VOCAB)

    def probability(u, v, w):
        p = naive(one, (), w, 1 / VOCAB)
        return naive(three, (u, v), w, naive(two, (v,), w, p))

    for u in range(0, VOCAB, 20):
        for v in range(0, VOCAB, 9):
            ours = [math.exp(trigram.nats(np.array([u, v])) - trigram.nats(np.array([u, v, w]))) for w in range(VOCAB)]
            assert abs(sum(ours) - 1) < 1e-9, (u, v, sum(ours))
            for w in range(VOCAB):
                assert abs(ours[w] - probability(u, v, w)) < 1e-9, (u, v, w, ours[w], probability(u, v, w))
    unigram = table.Unigram([train], VOCAB)
    assert abs(sum(math.exp(-unigram.nats(np.array([w]))) for w in range(VOCAB)) - 1) < 1e-9
    print('the trigram agrees with its definition')
    return 0


if __name__ == '__main__':
    sys.exit(main())
