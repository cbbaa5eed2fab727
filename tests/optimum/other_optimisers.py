"""Optimisers that share nothing with dtmarl.optimum: SLSQP, differential evolution, a grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import scalar_slot
from scipy.optimize import differential_evolution, minimize

from dtmarl.optimum import SlotProblem

Array = np.ndarray[Any, Any]


class Flat:
    """The first environment's associated links as flat arrays, in units of order 1."""

    def __init__(self, problem: SlotProblem) -> None:
        case = scalar_slot.lists(problem)
        present = np.array(case["user_mask"])
        link = np.array(case["association_mask"]) & present
        self.shape = link.shape
        self.station, self.user = np.nonzero(link)
        task = np.array(case["task_bytes"]) * present
        work = task * np.array(case["work_flop_per_byte"])
        self.local_s = work / np.array(case["local_flop_per_s"])
        self.retrain = np.array(case["retrain_work"])
        self.free = np.array(case["free_flop_per_s"])
        rate = np.array(case["rate_bytes_per_s"])[link]
        self.transfer_s = task[self.user] / rate
        self.overhead_s = np.array(case["overhead_bytes"])[link] / rate
        self.compute_s = work[self.user] / self.free[self.station]  # with the whole station
        self.users = max(int(present.sum()), 1)
        self.case = case

    def mean_delay(self, split: Array, share: Array) -> float:
        """The true system delay after making the point feasible, by the scalar oracle."""
        split = np.clip(split, 0.0, 1.0)
        over = np.bincount(self.user, split, self.shape[1])[self.user]
        split = split / np.maximum(over, 1.0)
        share = np.maximum(share, 1e-12)
        over = np.bincount(self.station, share, self.shape[0])[self.station]
        power = share / np.maximum(over, 1.0) * self.free[self.station]
        splits, powers = np.zeros(self.shape), np.zeros(self.shape)
        splits[self.station, self.user] = np.where(power > 0.0, split, 0.0)
        powers[self.station, self.user] = power
        return scalar_slot.mean_delay(self.case, splits.tolist(), powers.tolist())


def by_slsqp(problem: SlotProblem, rng: np.random.Generator, num_starts: int) -> float:
    """Least system delay over SLSQP runs from random starts, in epigraph form."""
    flat = Flat(problem)
    links, users = len(flat.user), flat.shape[1]
    scale = max(float(flat.local_s.max()), 1e-9)
    local, transfer = flat.local_s / scale, flat.transfer_s / scale
    overhead, compute = flat.overhead_s / scale, flat.compute_s / scale
    pick_user = flat.user[:, None] == np.arange(users)
    pick_station = flat.station[:, None] == np.arange(flat.shape[0])
    kappa = flat.retrain[flat.user]

    # Variables: split and share of each link, then finish and retraining delay of each user.
    def constraints(z: Array) -> Array:
        x, y, finish, retraining = np.split(z, [links, 2 * links, 2 * links + users])
        time = compute * x / y
        return np.concatenate(
            [
                finish - local * (1.0 - x @ pick_user),
                finish[flat.user] - overhead - transfer * x - time,
                retraining[flat.user] - kappa * time,
                1.0 - y @ pick_station,
                1.0 - x @ pick_user,
            ]
        )

    def jacobian(z: Array) -> Array:
        x, y = z[:links], z[links : 2 * links]
        by_x, by_y = compute / y, -compute * x / y**2
        user, station = pick_user.T.astype(float), pick_station.T.astype(float)
        none = np.zeros((links, users))
        eye_users = np.eye(users)
        return np.block(
            [
                [local[:, None] * user, 0.0 * user, eye_users, 0.0 * eye_users],
                [-np.diag(transfer + by_x), -np.diag(by_y), user.T, none],
                [-np.diag(kappa * by_x), -np.diag(kappa * by_y), none, user.T],
                [0.0 * station, -station, np.zeros((len(station), 2 * users))],
                [-user, 0.0 * user, 0.0 * eye_users, 0.0 * eye_users],
            ]
        )

    weight = np.concatenate([np.zeros(2 * links), np.ones(2 * users)])
    best = flat.mean_delay(np.zeros(links), np.zeros(links))
    for _ in range(num_starts):
        x = rng.uniform(0.0, 1.0, links) * rng.uniform(0.3, 1.0)
        y = rng.uniform(0.05, 1.0, links)
        # A random set of links starts almost unused: whom to serve is what SLSQP cannot find.
        idle = rng.random(links) < rng.choice([0.0, 0.3, 0.6])
        x, y = np.where(idle, 1e-3 * x, x), np.where(idle, 1e-3 * y, y)
        x = x / np.maximum(np.bincount(flat.user, x, users), 1.0)[flat.user]
        y = y / np.bincount(flat.station, y, flat.shape[0])[flat.station]
        start = np.concatenate([x, y, 2.0 * np.ones(users), np.ones(users)])
        bounds = [(0.0, 1.0)] * links + [(1e-6, 1.0)] * links + [(0.0, None)] * (2 * users)
        result = minimize(
            lambda z: float(weight @ z),
            start,
            jac=lambda z: weight,
            bounds=bounds,
            constraints={"type": "ineq", "fun": constraints, "jac": jacobian},
            method="SLSQP",
            options={"maxiter": 150, "ftol": 1e-10},
        )
        point = result.x
        if np.all(np.isfinite(point)):
            best = min(best, flat.mean_delay(point[:links], point[links : 2 * links]))
    return best


def by_evolution(problem: SlotProblem, seed: int) -> float:
    """Least system delay found by differential evolution over splits and weights of shares."""
    flat = Flat(problem)
    links = len(flat.user)

    def objective(z: Array) -> Array:
        x, weight = z[:links], 10.0 ** z[links:]  # [links, candidates]
        total = np.zeros((flat.shape[0], z.shape[1]))
        np.add.at(total, flat.station, weight)
        time = flat.compute_s[:, None] * x * total[flat.station] / weight
        arrival = flat.overhead_s[:, None] + flat.transfer_s[:, None] * x + time
        delay = np.zeros(z.shape[1])
        for n in range(flat.shape[1]):
            mine = flat.user == n
            split = x[mine].sum(axis=0)
            finish = flat.local_s[n] * (1.0 - split)
            retraining = np.zeros_like(finish)
            if mine.any():
                finish = np.maximum(finish, arrival[mine].max(axis=0))
                retraining = flat.retrain[n] * time[mine].max(axis=0)
            delay += finish + retraining + 1e3 * np.maximum(split - 1.0, 0.0)
        return delay

    result = differential_evolution(
        objective,
        [(0.0, 1.0)] * links + [(-4.0, 0.0)] * links,
        seed=seed,
        vectorized=True,
        updating="deferred",
        popsize=12,
        maxiter=150,
        tol=1e-8,
        polish=False,
    )
    weight = 10.0 ** result.x[links:]
    total = np.bincount(flat.station, weight, flat.shape[0])[flat.station]
    return flat.mean_delay(result.x[:links], weight / total)


def by_grid(problem: SlotProblem, num_shares: int = 240, num_splits: int = 241) -> float:
    """Least system delay on a grid, with one station per user: all shares, all splits.

    Shares are multiples of 1/num_shares; dynamic programming over the users of a station looks at
    every way to hand them out.
    """
    flat = Flat(problem)
    split = np.linspace(0.0, 1.0, num_splits)[1:, None]
    share = np.arange(1, num_shares + 1) / num_shares
    alone = np.ones(flat.shape[1], dtype=bool)
    alone[flat.user] = False
    total = float(flat.local_s[alone].sum())
    gap = np.arange(num_shares + 1)[:, None] - np.arange(num_shares + 1)
    for m in range(flat.shape[0]):
        spent = np.zeros(num_shares + 1)  # least delay of the users so far, by shares used
        for i in np.nonzero(flat.station == m)[0]:
            n = flat.user[i]
            time = flat.compute_s[i] * split / share
            arrival = flat.overhead_s[i] + flat.transfer_s[i] * split + time
            delay = np.maximum(flat.local_s[n] * (1.0 - split), arrival) + flat.retrain[n] * time
            unserved = max(flat.local_s[n], flat.overhead_s[i])
            cost = np.minimum(np.concatenate([[unserved], delay.min(axis=0)]), unserved)
            ways = np.where(gap >= 0, spent + cost[np.maximum(gap, 0)], np.inf)
            spent = ways.min(axis=1)
        total += float(spent.min())
    return total / flat.users
