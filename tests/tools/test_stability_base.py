#!/usr/bin/python3
"""Two cells of measured stability on the bundled language model (rules P7). The text is this repository's own pages, so that
a clone alone is enough. usage: test_stability_base.py SOURCE_ROOT SLUICE_TRAIN"""
import json
import os
import subprocess
import sys

PAGES = ['performance.md', 'decisions.md', 'device-sim.md', 'architecture.md']


def main():
    root, program = sys.argv[1:]
    run = subprocess.run([program, 'stability', '--model', os.path.join(root, 'trainer/models/base'), '--text',
                          *(os.path.join(root, 'docs', page) for page in PAGES), '--k', '8,64', '--fraction', '0.5',
                          '--repeats', '10', '--steps', '16', '--seq', '32', '--json'], stdout=subprocess.PIPE, text=True)
    if run.returncode:
        print('exit code', run.returncode)
        return 1
    got = json.loads(run.stdout)
    cells, slope = got['cells'], got['slopes']['log_k']
    print(f"beta {cells[0]['beta']:.4f} at k 8, {cells[1]['beta']:.4f} at k 64; slope on log k {slope['slope']:.2f}, "
          f"95 % {slope['low']:.2f} to {slope['high']:.2f}; {got['seconds']:.0f} s")
    checks = {
        'both cells have ten data sets': all(c['sets'] == 10 and c['pairs'] == 10 for c in cells),
        'training learns': cells[0]['training_fall'] > 0.1,  # each window eight times; at k 64 once
        'S against S is exactly zero': got['self_check'] == {'runs': 2, 'largest_difference': 0},
        'the cut alone changes nothing': got['cut_check']['cuts'] == [1, 4, 7]
        and max(got['cut_check']['largest_loss_difference'], got['cut_check']['largest_beta_difference']) <= 1e-6,
        'beta falls with k': slope['high'] < 0,
        'one fraction has no slope': got['slopes']['log_one_minus_alpha']['slope'] is None,
    }
    for what, holds in checks.items():
        if not holds:
            print('does not hold:', what)
    return 0 if all(checks.values()) else 1


if __name__ == '__main__':
    sys.exit(main())
