"""The paper's claims on its schemes (Fig. 2), as measurements that can turn out either way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from dtmarl.evaluation.report import Report
from dtmarl.evaluation.statistics import Estimate

PROPOSED = "proposed"
WITHOUT_TWIN = "without-twin"
WITHOUT_INCREMENTAL = "without-incremental"
SINGLE_TIMESCALE = "single-timescale"
_LARGEST_DELAY_RATIO = 0.4
_ROUNDING = 1e-9


class Claim(NamedTuple):
    """One comparison behind a claim."""

    figure: str  # of the paper
    statement: str  # what it says
    measure: str  # what is estimated here, paired by seed
    estimate: Estimate
    limit: float  # what the paper's figure has the measure above or below
    above: bool

    @property
    def verdict(self) -> str:
        """``holds``, ``does not hold``, or ``undecided`` where the interval holds the limit."""
        _, low, high = self.estimate
        # An end that only rounding keeps off the limit decides nothing.
        rounding = _ROUNDING * max(1.0, abs(self.limit))
        if math.isnan(low) or math.isnan(high):
            return "undecided"
        if low <= self.limit + rounding and high >= self.limit - rounding:
            return "undecided"
        return "holds" if (low > self.limit) is self.above else "does not hold"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "figure": self.figure,
            "statement": self.statement,
            "measure": self.measure,
            **self.estimate.to_dict(),
            "limit": self.limit,
            "above": self.above,
            "verdict": self.verdict,
        }


def paper_claims(schemes: Mapping[str, Report]) -> tuple[Claim, ...]:
    """The comparisons behind Fig. 2 (a), (b) and (c).

    Args:
        schemes: a report on each scheme of section IV, by name, on the same scenario and seeds.

    Raises:
        ValueError: a scheme is missing, or the seeds differ.
    """
    needed = (PROPOSED, WITHOUT_TWIN, WITHOUT_INCREMENTAL, SINGLE_TIMESCALE)
    missing = [name for name in needed if name not in schemes]
    if missing:
        raise ValueError(f"schemes: expected reports on {list(needed)}, missing {missing}")
    proposed, single = schemes[PROPOSED], schemes[SINGLE_TIMESCALE]
    accuracy = "the proposed scheme's accuracy is above that of the one {}"
    breakouts = "single timescale has abrupt break-outs, the proposed scheme prevents them"
    return (
        *(
            Claim(
                "2(a)",
                accuracy.format(name.replace("-", " ")),
                f"accuracy, proposed − {name}",
                proposed.difference(schemes[name], "accuracy"),
                0.0,
                True,
            )
            for name in (WITHOUT_TWIN, WITHOUT_INCREMENTAL)
        ),
        Claim(
            "2(b)",
            breakouts,
            "break-out rate, single-timescale − proposed",
            single.difference(proposed, "breakout_rate"),
            0.0,
            True,
        ),
        Claim(
            "2(b)",
            breakouts,
            "largest rise of the break-out share in one slot, single-timescale − proposed",
            single.difference(proposed, "breakout_jump"),
            0.0,
            True,
        ),
        Claim(
            "2(c)",
            "the proposed scheme's delay is more than 60 % below single timescale's",
            "mean delay, proposed / single-timescale",
            proposed.ratio(single, "system_delay_s"),
            _LARGEST_DELAY_RATIO,
            False,
        ),
        Claim(
            "2(c)",
            "the proposed scheme's delay is more than 60 % below single timescale's",
            "median delay, proposed / single-timescale",
            proposed.ratio(single, "median_delay_s"),
            _LARGEST_DELAY_RATIO,
            False,
        ),
    )
