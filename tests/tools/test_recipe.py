#!/usr/bin/python3
"""The first 50 steps of the base model's recipe, run again: losses within 1e-3 of the log committed beside the model, and
the same tokenizer. usage: test_recipe.py SOURCE_ROOT SLUICE_TRAIN"""
import json
import os
import subprocess
import sys
import tempfile

STEPS = 50
TOLERANCE = 1e-3


def losses(path):
    with open(path, encoding='ascii') as log:
        return [json.loads(line)['loss'] for line, _ in zip(log, range(STEPS))]


def main():
    root, program = sys.argv[1:]
    base = os.path.join(root, 'trainer/models/base')
    with tempfile.TemporaryDirectory() as directory:
        out, corpus = (os.path.join(directory, name) for name in ('model', 'corpus'))
        run = subprocess.run([os.path.join(root, 'scripts/base-model'), out, corpus, program, '--stop-after',
                              str(STEPS)], stderr=subprocess.PIPE, text=True)
        if run.returncode == 77:
            print('SKIP:', run.stderr.strip().splitlines()[-1])
            return 77
        if run.returncode:
            print(run.stderr)
            return 1
        with open(os.path.join(out, 'tokenizer.json'), 'rb') as made, \
                open(os.path.join(base, 'tokenizer.json'), 'rb') as kept:
            if made.read() != kept.read():
                print('the tokenizer is not the one beside the model')
                return 1
        made, kept = losses(os.path.join(out, 'pretrain.log')), losses(os.path.join(base, 'pretrain.log'))
    if len(made) != STEPS or len(kept) != STEPS:
        print(f'{len(made)} steps were run and {len(kept)} logged, not {STEPS}')
        return 1
    worst = max(abs(a - b) for a, b in zip(made, kept))
    print(f'{STEPS} steps, losses {made[0]:.4f} ... {made[-1]:.4f}, largest difference from the log {worst:.1e}')
    return 0 if worst <= TOLERANCE else 1


if __name__ == '__main__':
    sys.exit(main())
