import dataclasses

import pytest

import dtmarl
from dtmarl.evaluation.claims import paper_claims

SMALL = dtmarl.scenario("paper-v0").replace(frames_per_episode=2, slots_per_frame=2)
SEEDS = tuple(range(6))
WOBBLE = (0.0, 0.01, -0.01, 0.02, -0.02, 0.005)


@pytest.fixture(scope="module")
def blank():
    return dtmarl.evaluate("local-only", SMALL, seeds=SEEDS)


def schemes(blank, **values):
    """Reports with given means of a metric by scheme, the same small wobble over the seeds."""
    reports = {}
    for index, name in enumerate(dtmarl.SCHEMES):
        per_seed = {
            metric: tuple(means[index] * (1.0 + (1 + index) * wobble) for wobble in WOBBLE)
            for metric, means in values.items()
        }
        reports[name] = dataclasses.replace(blank, per_seed={**blank.per_seed, **per_seed})
    return reports


def verdicts(reports):
    return [claim.verdict for claim in paper_claims(reports)]


# In the order of SCHEMES: proposed, without-incremental, without-twin, single-timescale.
AS_THE_PAPER_SAYS = {
    "accuracy": (0.9, 0.7, 0.6, 0.8),
    "breakout_rate": (0.1, 0.3, 0.3, 0.4),
    "breakout_jump": (0.1, 0.3, 0.3, 0.6),
    "system_delay_s": (10.0, 40.0, 40.0, 60.0),
    "median_delay_s": (10.0, 40.0, 40.0, 60.0),
}


def test_claims_hold_where_they_do(blank):
    assert verdicts(schemes(blank, **AS_THE_PAPER_SAYS)) == ["holds"] * 6


def test_claims_do_not_hold_where_it_is_the_other_way_round(blank):
    turned = {name: means[::-1] for name, means in AS_THE_PAPER_SAYS.items()}
    turned["accuracy"] = (0.5, 0.7, 0.6, 0.8)
    assert verdicts(schemes(blank, **turned)) == ["does not hold"] * 6


def test_a_delay_a_tenth_lower_is_not_60_per_cent_lower(blank):
    values = AS_THE_PAPER_SAYS | {"system_delay_s": (54.0, 60.0, 60.0, 60.0)}
    assert verdicts(schemes(blank, **values))[4] == "does not hold"


def test_claims_are_undecided_where_the_interval_holds_the_limit(blank):
    values = AS_THE_PAPER_SAYS | {"accuracy": (0.7, 0.7, 0.6, 0.8)}
    assert verdicts(schemes(blank, **values))[1] == "undecided"


def test_one_seed_decides_nothing():
    reports = {
        name: dtmarl.evaluate("local-only", SMALL, seeds=[0], controller=name)
        for name in dtmarl.SCHEMES
    }
    assert set(verdicts(reports)) == {"undecided"}


def test_every_scheme_is_needed(blank):
    with pytest.raises(ValueError, match="without-twin"):
        paper_claims({"proposed": blank})
