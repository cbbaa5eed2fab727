"""Association solvers: seconds, and how far from the optimum they can be at most.

Frames like the paper's: ResNet-18's work, rates log-uniform over two decades, 30 % of the users
retrain, half of the links are new. A gap is (value - bound) / value: `exact` and `local-search`
certify their own ("proved" counts gaps up to 2e-7); "to exact" is local search's against exact's
bound. Seconds are CPU time of the one thread, so that other programs on the machine count for less;
medians over instances or repetitions where there are several.

    python benchmarks/association.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from dtmarl.frame.association.exact import exact
from dtmarl.frame.association.local_search import local_search
from dtmarl.frame.association.partitions import MOST_USERS
from dtmarl.frame.association.problem import (
    AssociationProblem,
    AssociationResult,
    ExpectedSlot,
)

# base stations, users, instances: how time grows
GROWTH_IN_USERS = tuple((3, n, 20) for n in (5, 8, 10, 12, 15, 20, 40))
GROWTH_IN_STATIONS = tuple((m, 10, 20) for m in (2, 5, 10, 20))
LARGE = ((5, 40, 10), (10, 100, 3), (20, 200, 1))
ALIKE = ((3, 10, 10), (3, 20, 10), (5, 40, 5))
ENVIRONMENTS = (1, 1024)
LIMIT_S = 10.0


def frames(
    seed: int, num_envs: int, num_stations: int, num_users: int, decades: float = 2.0
) -> AssociationProblem:
    """Random frames, all users present."""
    rng = np.random.default_rng(seed)
    shape, users = (num_envs, num_stations, num_users), (num_envs, num_users)
    rate = 2e7 * 10.0 ** -rng.uniform(0.0, decades, shape)
    return AssociationProblem(
        cost_s=np.ones(shape),
        demand_flop_per_s=np.ones(users),
        capacity_flop_per_s=rng.uniform(40e9, 50e9, shape[:2]),
        distance_m=np.ones(shape),
        gain_db=10.0 * np.log10(rate),
        present_mask=np.ones(users, dtype=bool),
        expected_slot=ExpectedSlot(
            rate_bytes_per_s=rate,
            task_bytes=rng.uniform(13e6, 17e6, users),
            overhead_bytes=1e4 + 4.47e6 * (rng.random(shape) < 0.5),
            retrain_work=0.75 * (rng.random(users) < 0.3),
            work_flop_per_byte=24.2e3,
            local_flop_per_s=5e9,
        ),
    )


def timed(solve: Callable[[], AssociationResult]) -> tuple[AssociationResult, float]:
    begin = time.process_time()
    return solve(), time.process_time() - begin


def relative_gap(value_s: Any, bound_s: Any) -> Any:
    return (value_s - bound_s) / value_s


def measure_exact(
    size: tuple[int, int, int], decades: float = 2.0, **limits: Any
) -> dict[str, Any]:
    """Exact on several single environments."""
    num_stations, num_users, instances = size
    exact(frames(0, 1, num_stations, min(num_users, 10)))  # warm up
    seeds = range(1, instances + 1)
    problems = [frames(seed, 1, num_stations, num_users, decades) for seed in seeds]
    runs = [timed(lambda problem=problem: exact(problem, **limits)) for problem in problems]
    gaps = np.array([float(relative_gap(r.value_s, r.bound_s)[0]) for r, _ in runs])
    seconds = np.array([s for _, s in runs])
    return {
        "solver": "exact",
        "environments": 1,
        "stations": num_stations,
        "users": num_users,
        "instances": instances,
        "decades": decades,
        **limits,
        "median_s": float(np.median(seconds)),
        "p90_s": float(np.quantile(seconds, 0.9)),
        "proved_share": float((gaps <= 2e-7).mean()),
        "mean_gap": float(gaps.mean()),
        "largest_gap": float(gaps.max()),
        "median_nodes": float(np.median([r.nodes[0] for r, _ in runs])),
    }


def measure_local_search(num_envs: int, num_stations: int, num_users: int) -> dict[str, Any]:
    """Local search on many environments at once, and against exact's bound where that is quick."""
    problem = frames(1, num_envs, num_stations, num_users)
    local_search(problem)  # warm up
    runs = [timed(lambda: local_search(problem)) for _ in range(5 if num_users <= 40 else 1)]
    result = runs[0][0]
    own = relative_gap(result.value_s, result.bound_s)
    row = {
        "solver": "local-search",
        "environments": num_envs,
        "stations": num_stations,
        "users": num_users,
        "median_s": float(np.median([s for _, s in runs])),
        "mean_gap": float(own.mean()),
        "largest_gap": float(own.max()),
    }
    if num_users <= MOST_USERS:
        to_exact = relative_gap(result.value_s, exact(problem).bound_s)
        row |= {"to_exact": float(to_exact.mean()), "largest_to_exact": float(to_exact.max())}
    return row


def show_exact(row: dict[str, Any]) -> None:
    print(
        f"{row['stations']:>4} {row['users']:>5} {row['median_s'] * 1e3:>11.1f} "
        f"{row['p90_s'] * 1e3:>9.1f} {row['proved_share']:>8.0%} {row['mean_gap']:>9.1e} "
        f"{row['largest_gap']:>9.1e} {row['median_nodes']:>7.0f}",
        flush=True,
    )


def show_local_search(row: dict[str, Any]) -> None:
    to_exact = f"{row['to_exact']:>9.1e}" if "to_exact" in row else f"{'':>9}"
    print(
        f"{row['environments']:>5} {row['stations']:>4} {row['users']:>5} {row['median_s']:>9.4f} "
        f"{row['mean_gap']:>10.1e} {row['largest_gap']:>9.1e} {to_exact}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the paper's size only")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = []
    print("exact, one environment")
    print(
        f"{'M':>4} {'N':>5} {'median ms':>11} {'p90 ms':>9} {'proved':>8} {'mean gap':>9} "
        f"{'max':>9} {'nodes':>7}"
    )
    sizes = ((3, 10, 50),)
    if not arguments.quick:
        sizes += GROWTH_IN_USERS + GROWTH_IN_STATIONS + LARGE
    for size in sizes:
        rows.append(measure_exact(size))
        show_exact(rows[-1])
    if not arguments.quick:
        print(f"the same with {LIMIT_S:.0f} s instead of the default number of nodes")
        rows.append(measure_exact(LARGE[-1], node_limit=10**9, time_limit_s=LIMIT_S))
        show_exact(rows[-1])
        print("the same where all links are alike, rates within a factor of 1.1")
        for size in ALIKE:
            rows.append(measure_exact(size, decades=math.log10(1.1)))
            show_exact(rows[-1])

    print("\nlocal-search, environments at once; gaps by its own bound, and to exact's")
    print(f"{'E':>5} {'M':>4} {'N':>5} {'seconds':>9} {'mean gap':>10} {'max':>9} {'to exact':>9}")
    for num_envs in ENVIRONMENTS:
        rows.append(measure_local_search(num_envs, 3, 10))
        show_local_search(rows[-1])
    if not arguments.quick:
        for num_stations, num_users, _ in LARGE:
            rows.append(measure_local_search(1, num_stations, num_users))
            show_local_search(rows[-1])
    if arguments.json:
        machine = platform.processor() or platform.machine()
        content = {"machine": machine, "numpy": np.__version__, "cases": rows}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
