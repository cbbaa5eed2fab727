"""Slot optima per second of one core, and how tight they are.

Slots like the paper's: 3 base stations, 10 users of which 30 % retrain, ResNet-18's work. The first
rows have one base station per user and are solved to the tolerance; the last ones have several,
where the gap is what can be proved. Seconds are CPU time of the one thread, so that other programs
on the machine count for less; figures are medians over repetitions.

    python benchmarks/optimum.py [--repeats 7] [--torch] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from dtmarl.optimum import SlotProblem, slot_optimum

# label, environments, base stations, users, share that retrains, several stations per user
CASES = (
    ("paper-like", 1, 3, 10, 0.3, False),
    ("paper-like", 1024, 3, 10, 0.3, False),
    ("paper-like, all retrain", 1, 3, 10, 1.0, False),
    ("paper-like, all retrain", 1024, 3, 10, 1.0, False),
    ("large", 1, 20, 40, 0.3, False),
    ("large", 1024, 20, 40, 0.3, False),
    ("one crowded station", 64, 1, 40, 1.0, False),
    ("several stations", 1, 3, 10, 0.3, True),
    ("several stations", 64, 3, 10, 0.3, True),
)


def slots(
    num_environments: int, num_stations: int, num_users: int, retrain: float, several: bool
) -> SlotProblem:
    rng = np.random.default_rng(0)
    shape = (num_environments, num_stations, num_users)
    users = (num_environments, num_users)
    station = rng.integers(0, num_stations, users)
    association = np.arange(num_stations)[:, None] == station[:, None, :]
    if several:
        association |= rng.random(shape) < 0.5
    return SlotProblem(
        association_mask=association,
        rate_bytes_per_s=np.exp(rng.uniform(np.log(1e5), np.log(2e7), shape)),
        task_bytes=rng.uniform(10e6, 20e6, users),
        overhead_bytes=1e4 + 44.7e6 * (rng.random(shape) < 0.02),
        retrain_work=0.75 * (rng.random(users) < retrain),
        free_flop_per_s=rng.uniform(40e9, 50e9, shape[:2]),
        work_flop_per_byte=24.2e3,
        local_flop_per_s=5e9,
        user_mask=rng.random(users) < 0.95,
    ).validated()


def in_torch(problem: SlotProblem) -> SlotProblem:
    import torch

    torch.set_num_threads(1)
    values = {name: getattr(problem, name) for name in problem.__dataclass_fields__}
    return SlotProblem(
        **{k: v if isinstance(v, float) else torch.from_numpy(v) for k, v in values.items()}
    )


def measure(problem: SlotProblem, repeats: int) -> dict[str, float]:
    """Environments per second, and the relative gap."""
    optimum = slot_optimum(problem)  # warm up
    number = optimum.delay_s.shape[0]
    begin = time.process_time()
    slot_optimum(problem)
    calls = max(1, int(0.2 / (time.process_time() - begin)))
    rates = []
    for _ in range(repeats):
        begin = time.process_time()
        for _ in range(calls):
            slot_optimum(problem)
        rates.append(calls * number / (time.process_time() - begin))
    gap = (optimum.delay_s - optimum.lower_bound_s) / optimum.delay_s
    return {
        "optima_per_s": statistics.median(rates),
        "slowest_per_s": min(rates),
        "fastest_per_s": max(rates),
        "median_gap": float(np.median(np.asarray(gap))),
        "largest_gap": float(np.max(np.asarray(gap))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="timed repetitions of each case")
    parser.add_argument("--torch", action="store_true", help="torch tensors instead of NumPy")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = []
    print(
        f"{'slots':<26} {'E':>5} {'M':>3} {'N':>3} {'optima/s':>10} {'median gap':>11} {'max':>8}"
    )
    for label, *size in CASES:
        problem = slots(*size)
        figures = measure(in_torch(problem) if arguments.torch else problem, arguments.repeats)
        print(
            f"{label:<26} {size[0]:>5} {size[1]:>3} {size[2]:>3} {figures['optima_per_s']:>10,.0f} "
            f"{figures['median_gap']:>11.1e} {figures['largest_gap']:>8.1e}",
            flush=True,
        )
        sizes = dict(zip(("environments", "stations", "users"), size, strict=False))
        rows.append({"slots": label, **sizes, **figures})
    if arguments.json:
        result = {
            "machine": platform.processor() or platform.machine(),
            "backend": "torch" if arguments.torch else "numpy",
            "cases": rows,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
