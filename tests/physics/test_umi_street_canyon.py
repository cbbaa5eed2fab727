"""UMi street canyon against numbers worked out by hand from 3GPP TR 38.901.

Table 7.4.1-1, with f in GHz, d3D² = d2D² + (hBS - hUT)², d'BP = 4 (hBS - 1)(hUT - 1) f/c, c = 3e8:

    PL1 = 32.4 + 21 lg d3D + 20 lg f                                    10 m <= d2D <= d'BP
    PL2 = 32.4 + 40 lg d3D + 20 lg f - 9.5 lg(d'BP² + (hBS - hUT)²)     d'BP <= d2D <= 5 km
    PL'NLOS = 35.3 lg d3D + 22.4 + 21.3 lg f - 0.3 (hUT - 1.5),  PLNLOS = max(PLLOS, PL'NLOS)

By hand with hBS = 10 m, hUT = 1.5 m and f = 3.5 GHz (lg f = 0.5440680, 20 lg f = 10.881361,
21.3 lg f = 11.588649), so that (hBS - hUT)² = 72.25 and d'BP = 4·9·0.5·3.5e9/3e8 = 210 m:

    d2D   d3D       lg d3D      PLLOS                                          PL'NLOS
     10   √172.25   1.1180796   32.4 + 23.479672 + 10.881361     =  66.7610    39.468210 + 33.988649
     50   √2572.25  1.7051566   32.4 + 35.808288 + 10.881361     =  79.0896    60.192028 + 33.988649
    100   √10072.25 2.0015632   32.4 + 42.032828 + 10.881361     =  85.3142    70.655183 + 33.988649
    200   √40072.25 2.3014219   32.4 + 48.329859 + 10.881361     =  91.6112    81.240192 + 33.988649
    300   √90072.25 2.4772955   32.4 + 99.091820 + 10.881361 - A =  98.2443    87.448531 + 33.988649
    with A = 9.5 lg(44100 + 72.25) = 9.5 · 4.6451495 = 44.128920

The maximum acts where both antennas are high: hBS = hUT = 22.5 m, f = 0.5 GHz, d2D = 10 m give
PLLOS = 32.4 + 21 - 6.020600 = 47.3794 and PL'NLOS = 35.3 + 22.4 - 6.411939 - 6.3 = 44.9881.

Table 7.4.2-1: P = 1 up to 18 m, then 18/d + exp(-d/36)(1 - 18/d):
     50 m   0.36 + 0.2493522 · 0.64 = 0.5195854        100 m   0.18 + 0.0621765 · 0.82 = 0.2309847
"""

from __future__ import annotations

import numpy as np
import pytest

from dtmarl.config import RadioConfig
from dtmarl.physics.channel.umi_street_canyon import UmiStreetCanyon

MODEL = UmiStreetCanyon()
BY_HAND = (
    (10.0, 66.7610, 73.4569),
    (50.0, 79.0896, 94.1807),
    (100.0, 85.3142, 104.6438),
    (200.0, 91.6112, 115.2288),
    (300.0, 98.2443, 121.4372),
)


def loss_db(distance_m: float, sight: bool, **radio: float) -> float:
    loss = MODEL.path_loss_db(
        np.array([[[distance_m]]]), np.array([[[sight]]]), RadioConfig(**radio)
    )
    return float(loss[0, 0, 0])


@pytest.mark.parametrize(("distance_m", "with_sight", "without"), BY_HAND)
def test_path_loss_by_hand(distance_m: float, with_sight: float, without: float) -> None:
    assert loss_db(distance_m, True) == pytest.approx(with_sight, abs=1e-4)
    assert loss_db(distance_m, False) == pytest.approx(without, abs=1e-4)


def test_breakpoint_is_at_210_m() -> None:
    """The slope per decade of the slant distance turns from 21 to 40 dB at d'BP."""

    def slope(near_m: float, far_m: float) -> float:
        decades = 0.5 * np.log10((far_m**2 + 72.25) / (near_m**2 + 72.25))
        return float((loss_db(far_m, True) - loss_db(near_m, True)) / decades)

    assert slope(150.0, 209.9) == pytest.approx(21.0, abs=1e-6)
    assert slope(210.1, 400.0) == pytest.approx(40.0, abs=1e-6)
    # At d'BP, d'BP² + Δh² is d3D², and 40 - 2 · 9.5 is 21: the two formulas meet.
    assert loss_db(210.0 + 1e-9, True) == pytest.approx(loss_db(210.0, True), abs=1e-6)


def test_obstructed_link_never_loses_less_than_a_clear_one() -> None:
    heights = {"site_height_m": 22.5, "user_height_m": 22.5, "carrier_hz": 0.5e9}
    assert loss_db(10.0, True, **heights) == pytest.approx(47.3794, abs=1e-4)
    assert loss_db(10.0, False, **heights) == pytest.approx(47.3794, abs=1e-4)
    # Farther out the obstructed formula is the larger one: 40 lg 1000 = 120 and so on.
    assert loss_db(1000.0, False, **heights) == pytest.approx(
        35.3 * 3 + 22.4 - 6.411939 - 6.3, abs=1e-4
    )


def test_user_height_lowers_the_obstructed_loss() -> None:
    higher = loss_db(100.0, False, user_height_m=3.0)
    # d3D² = 10049, lg d3D = 2.0010611: 70.637457 + 22.4 + 11.588649 - 0.45
    assert higher == pytest.approx(104.1761, abs=1e-4)


@pytest.mark.parametrize("sight", [True, False])
def test_links_shorter_than_10_m_have_the_loss_of_10_m(sight: bool) -> None:
    assert loss_db(0.0, sight) == loss_db(10.0, sight)
    assert loss_db(9.99, sight) == loss_db(10.0, sight)
    assert loss_db(10.01, sight) > loss_db(10.0, sight)


@pytest.mark.parametrize(
    ("distance_m", "probability"),
    [(0.0, 1.0), (17.9, 1.0), (18.0, 1.0), (50.0, 0.5195854), (100.0, 0.2309847)],
)
def test_line_of_sight_probability_by_hand(distance_m: float, probability: float) -> None:
    actual = MODEL.line_of_sight_probability(np.array([[[distance_m]]]))
    assert float(actual[0, 0, 0]) == pytest.approx(probability, abs=1e-7)


def test_constants_of_the_tables() -> None:
    assert MODEL.shadowing_std_db == (4.0, 7.82)  # table 7.4.1-1
    assert MODEL.shadowing_correlation_m == (10.0, 13.0)  # table 7.5-6
    assert MODEL.line_of_sight_correlation_m == 50.0  # table 7.6.3.1-2
    assert MODEL.rician_k == (pytest.approx(7.943282, rel=1e-6), 0.0)  # 9 dB in table 7.5-6
