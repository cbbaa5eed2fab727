"""The slot optimum against SLSQP from random starts, as a table.

    python tests/optimum/against_slsqp.py [--cases 30] [--starts 4]

Random slots of every kind in `slot_cases`, with one base station per user and with several. Where
SLSQP is ahead its point is better than ours by that part; a bound may never be above either.
"""

from __future__ import annotations

import argparse

import numpy as np
from other_optimisers import by_slsqp
from slot_cases import KINDS, random_problem

from dtmarl.optimum import slot_optimum

BEATEN = 1e-4


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=30, help="of each kind")
    parser.add_argument("--starts", type=int, default=4, help="of SLSQP, in each case")
    arguments = parser.parse_args()
    print(
        f"{'base stations':<14} {'cases':>5} {'beaten by > 1e-4':>17} {'most':>8} "
        f"{'ahead by > 1e-4':>16} {'bounds wrong':>13} {'median gap':>11} {'max':>8}"
    )
    for several in (False, True):
        rng = np.random.default_rng(1)
        behind, gaps, wrong = [], [], 0
        for kind in KINDS:
            for seed in range(300, 300 + arguments.cases):
                problem = random_problem(
                    seed,
                    num_stations=1 + seed % 3,
                    num_users=2 + seed % 4,
                    kind=kind,
                    several=several,
                )
                optimum = slot_optimum(problem)
                delay, bound = float(optimum.delay_s[0]), float(optimum.lower_bound_s[0])
                other = by_slsqp(problem, rng, num_starts=arguments.starts)
                scale = max(other, 1e-12)  # nobody may be there
                behind.append((delay - other) / scale)
                gaps.append((delay - bound) / scale)
                wrong += bound > min(delay, other * (1.0 + 1e-9))
        print(
            f"{'several' if several else 'one per user':<14} {len(behind):>5} "
            f"{sum(b > BEATEN for b in behind):>17} {max(max(behind), 0.0):>8.1e} "
            f"{sum(b < -BEATEN for b in behind):>16} {wrong:>13} "
            f"{np.median(gaps):>11.1e} {max(gaps):>8.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
