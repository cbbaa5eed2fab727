"""The system delay of a slot, eqs (3)-(5), (10), (11a), in plain Python floats; a test's oracle."""

from __future__ import annotations

import math
from typing import Any

from dtmarl.optimum import SlotProblem


def lists(problem: SlotProblem) -> dict[str, Any]:
    """Every field of the first environment as nested lists of Python numbers."""
    fields: dict[str, Any] = {}
    for name in problem.__dataclass_fields__:
        value = getattr(problem, name)
        fields[name] = value if isinstance(value, float) else value[0].tolist()
    for name in ("work_flop_per_byte", "local_flop_per_s"):
        if isinstance(fields[name], float):
            fields[name] = [fields[name]] * len(fields["task_bytes"])
    return fields


def user_delay(case: dict[str, Any], n: int, split: list[float], power: list[float]) -> float:
    """L_n + L_n^DT of one user for its split and power by station."""
    task, work = case["task_bytes"][n], case["work_flop_per_byte"][n]
    finish = (1.0 - sum(split)) * task * work / case["local_flop_per_s"][n]
    retraining = 0.0
    for m, fraction in enumerate(split):
        if not case["association_mask"][m][n]:
            assert fraction == 0.0
            continue
        sent = fraction * task + case["overhead_bytes"][m][n]
        rate = case["rate_bytes_per_s"][m][n]
        at_station = 0.0
        if sent > 0.0:
            at_station += sent / rate if rate > 0.0 else math.inf
        if fraction > 0.0:
            compute = fraction * task * work / power[m] if power[m] > 0.0 else math.inf
            at_station += compute
            if case["retrain_work"][n] > 0.0:
                retraining = max(retraining, case["retrain_work"][n] * compute)
        finish = max(finish, at_station)
    return finish + retraining


def mean_delay(case: dict[str, Any], split: list[list[float]], power: list[list[float]]) -> float:
    """System delay for nested lists [M][N]."""
    present = [n for n, here in enumerate(case["user_mask"]) if here]
    if not present:
        return 0.0
    delays = [
        user_delay(case, n, [row[n] for row in split], [row[n] for row in power]) for n in present
    ]
    return sum(delays) / len(delays)
