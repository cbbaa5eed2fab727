"""What a user costs at least at given prices, against a search over its splits and powers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import differential_evolution, minimize

from dtmarl.optimum.price_bound import cheapest_s
from dtmarl.optimum.several import centres_s
from dtmarl.optimum.stations import Links, compact_links

Array = np.ndarray[Any, Any]


def one_user(seed: int, num_links: int, retrains: bool, floor: float) -> tuple[Links, Array]:
    """One user and prices for which offloading is worth its while, in round units.

    A floor above 0 is that part of the local time, and the overhead of the last link.
    """
    rng = np.random.default_rng([seed, num_links, retrains])
    shape = (1, num_links, 1)
    transfer = np.exp(rng.uniform(np.log(0.3), np.log(30.0), shape))
    overhead = 0.001 * transfer
    local = np.array([[50.0]])
    if floor > 0.0:
        overhead[0, -1, 0] = floor * local[0, 0]
    links = compact_links(
        np.ones(shape, dtype=bool),
        overhead,
        transfer,
        overhead.max(axis=1),
        local,
        np.ones((1, 1)),
        np.array([[rng.choice([0.2, 0.75, 2.0]) if retrains else 0.0]]),
    )
    return links, np.exp(rng.uniform(np.log(10.0), np.log(300.0), (1, num_links)))


def least_cost(links: Links, price: Array, seed: int) -> float:
    """Delay plus price of compute, by differential evolution over x and log s."""
    a, b = links.overhead_s[0, :, 0], links.transfer_s[0, :, 0]
    local, floor = links.local_s[0, 0], links.floor_s[0, 0]
    kappa, cost = links.retrain_work[0, 0], links.of_station(price)[0, :, 0]
    number = len(a)

    def objective(z: Array) -> Any:
        z = z.reshape(2 * number, -1)
        x, s = np.maximum(z[:number], 0.0), np.exp(np.clip(z[number:], -9.0, 9.0))
        used = x > 1e-9
        arrival = np.where(used, a[:, None] + b[:, None] * x + s, 0.0).max(axis=0)
        finish = np.maximum(np.maximum((1.0 - x.sum(axis=0)) * local, floor), arrival)
        value = finish + kappa * np.where(used, s, 0.0).max(axis=0)
        value = value + (cost[:, None] * x / s).sum(axis=0)
        value = value + 1e3 * np.maximum(x.sum(axis=0) - 1.0, 0.0)
        return value if len(value) > 1 else float(value[0])

    bounds = [(-0.3, 1.0)] * number + [(np.log(0.01), np.log(100.0))] * number
    found = differential_evolution(
        objective,
        bounds,
        seed=seed,
        vectorized=True,
        updating="deferred",
        strategy="rand1bin",
        popsize=15,
        maxiter=400,
        tol=1e-9,
        polish=False,
    )
    polished = minimize(objective, found.x, method="Nelder-Mead", options={"maxiter": 2000})
    return min(float(found.fun), float(polished.fun), max(local, floor))


@pytest.mark.parametrize("retrains", [False, True])
@pytest.mark.parametrize("floor", [0.0, 0.2, 0.4])
def test_no_split_costs_less_and_the_bound_is_close(retrains: bool, floor: float) -> None:
    offloads = 0
    for seed in range(6):
        links, price = one_user(seed, 2 + seed % 2, retrains, floor)
        per_link = links.of_station(price)
        least = min(least_cost(links, price, start) for start in (seed, seed + 50))
        offloads += least < 0.98 * links.local_s[0, 0]
        centre = centres_s(links, price)
        assert float(cheapest_s(links, per_link, centre)[0, 0]) <= least * (1.0 + 1e-9)
        assert float(cheapest_s(links, per_link, centre)[0, 0]) >= least * 0.97
        # The bound holds wherever the intervals are, however wide.
        for part in (0.0, 0.1, 0.5, 1.0):
            misled = 0.0 * centre + part * links.local_s[:, None, :]
            assert float(cheapest_s(links, per_link, misled)[0, 0]) <= least * (1.0 + 1e-9)
    assert offloads >= 3
