"""The costs, demands and capacities of P2 by hand: what the solvers are given."""

from types import SimpleNamespace

import numpy as np
import pytest

import dtmarl
from dtmarl.frame.association.problem import association_problem

# Round numbers: 1 FLOP a byte locally at 1 FLOP/s, sites of 10 FLOP/s.
CONFIG = dtmarl.scenario("paper-v0").replace(
    num_base_stations=2,
    compute={"work_flop_per_byte": 1.0, "user_flop_per_s": 1.0, "site_flop_per_s": 10.0},
    traffic={"result_bytes": 2.0, "migration_bytes": 40.0},
    radio={"outage_snr_db": -300.0},
)


def view(**changes):
    """Two users with tasks of 12 bytes; user 0 is at site 0, user 1 at site 1."""
    fields = {
        "slots_per_decision": 10,
        "present_mask": np.array([[True, True]]),
        "association_mask": np.array([[[True, False], [False, True]]]),
        "distance_m": np.ones((1, 2, 2)),
        "gain_db": np.zeros((1, 2, 2)),
        "rate_bytes_per_s": np.array([[[2.0, 2.0], [4.0, 4.0]]]),
        "free_flop_per_s": np.array([[8.0, 4.0]]),
        "mean_task_bytes": np.array([[12.0, 12.0]]),
    }
    return SimpleNamespace(**{**fields, **changes})


def test_demand_shares_half_of_the_free_compute_by_work() -> None:
    """Works 12 and 12·(1 + 1) = 24 share (8 + 4) / 2 = 6 FLOP/s: 2 and 4."""
    problem = association_problem(CONFIG, view(), np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(problem.demand_flop_per_s, [[2.0, 4.0]], rtol=1e-12)
    np.testing.assert_array_equal(problem.capacity_flop_per_s, [[8.0, 4.0]])


def test_cost_is_the_balanced_delay_and_the_overhead() -> None:
    """Seconds a byte: user 0 at site 0: 1/2 + 1/2 = 1, so 12 / (1 + 1) = 6 s, and 2 / 2 = 1 s.

    User 0 at site 1 (new): 1/4 + 1/2 = 3/4, 12 / (4/3 + 1) = 36/7; (2 + 40/10) / 4 = 1.5 s.
    User 1 retrains: (1 + 1) / 4 = 1/2 for compute. At site 0 (new): 1/2 + 1/2 = 1: 6 s, and
    (2 + 4) / 2 = 3 s. At site 1: 1/4 + 1/2 = 3/4: 36/7 s, and 2 / 4 = 0.5 s.
    """
    problem = association_problem(CONFIG, view(), np.array([[0.0, 1.0]]))
    expected = [[6.0 + 1.0, 6.0 + 3.0], [36.0 / 7.0 + 1.5, 36.0 / 7.0 + 0.5]]
    np.testing.assert_allclose(problem.cost_s[0], expected, rtol=1e-12)


def test_moving_weighs_as_many_slots_as_the_decision_lasts() -> None:
    once = association_problem(CONFIG, view(slots_per_decision=1), np.zeros((1, 2)))
    ten = association_problem(CONFIG, view(), np.zeros((1, 2)))
    moved = np.array([[[False, True], [True, False]]])
    extra = (once.cost_s - ten.cost_s)[moved]
    assert extra == pytest.approx([40.0 * 0.9 / 2.0, 40.0 * 0.9 / 4.0])
    np.testing.assert_array_equal(once.cost_s[~moved], ten.cost_s[~moved])


def test_where_the_twin_expects_outage_the_task_stays_local() -> None:
    """12 bytes at 1 FLOP/s take 12 s; what has to be sent is priced at the weakest usable link."""
    config = CONFIG.replace(radio={"outage_snr_db": 0.0, "bandwidth_hz": 8.0})  # 1 byte/s at 0 dB
    rate = np.array([[[0.0, 2.0], [4.0, 4.0]]])
    problem = association_problem(config, view(rate_bytes_per_s=rate), np.zeros((1, 2)))
    assert problem.cost_s[0, 0, 0] == pytest.approx(12.0 + 2.0)
    assert np.isfinite(problem.cost_s).all()
