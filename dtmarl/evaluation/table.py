"""Reports as text: tables that fit into 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from dtmarl.evaluation.report import Report
from dtmarl.evaluation.rollout import METRICS
from dtmarl.evaluation.statistics import Estimate

WIDTH = 80
_NAME_WIDTHS = (14, 19)
_BLOCKS = (
    (
        ("system_delay_s", "mean delay (s)", 22),
        ("median_delay_s", "median delay (s)", 22),
    ),
    (
        ("accuracy", "accuracy (%)", 18),
        ("breakout_rate", "break-outs (%)", 18),
        ("retrain_rate", "retr.", 5),
    ),
    (
        ("optimality_gap", "optimality (%)", 18),
        ("clairvoyant_gap", "clairvoyant (%)", 18),
        ("twin_gap", "twin", 5),
    ),
)
_GAPS = "Gaps: to the slots' optimum; to a bound over all associations; to what the twin expects"


def is_share(metric: str) -> bool:
    """Whether a metric is a share, shown in per cent."""
    return not metric.endswith("_s")


def number(value: float, *, like: float | None = None) -> str:
    """A number with about three digits, or as many decimals as another one would have.

    >>> number(36.74), number(195.77), number(2345.6), number(0.0314)
    ('36.7', '196', '2346', '0.031')
    """
    if not math.isfinite(value):
        return "–"
    reference = abs(value if like is None else like)
    if reference >= 1e5:
        return f"{value:.2e}"
    decimals = 0 if reference >= 100 else 1 if reference >= 10 else 2 if reference >= 1 else 3
    return _rounded(value, decimals)


def with_interval(estimate: Estimate) -> str:
    """A value and its interval, such as ``36.7 [33.1, 41.2]``; no interval where there is none.

    >>> with_interval(Estimate(36.74, 33.1, 41.23))
    '36.7 [33.1, 41.2]'
    """
    value, low, high = estimate
    if math.isnan(low) or math.isnan(high):
        return number(value)
    return f"{number(value)} [{number(low, like=value)}, {number(high, like=value)}]"


def per_cent(estimate: Estimate) -> str:
    """A share and its interval in per cent, such as ``86.0 [85.1, 86.9]``.

    >>> per_cent(Estimate(0.0012, 0.0009, 0.0016)), per_cent(Estimate(2.204, 1.996, 2.41))
    ('0.1 [0.1, 0.2]', '220 [200, 241]')
    """
    value, low, high = (100.0 * part for part in estimate)
    decimals = 1 if abs(value) < 100.0 else 0
    shown, *ends = (_rounded(part, decimals) for part in (value, low, high))
    return shown if math.isnan(low) or math.isnan(high) else f"{shown} [{', '.join(ends)}]"


def _rounded(value: float, decimals: int) -> str:
    """The value with so many decimals, zero without a sign."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def comparison_table(reports: Sequence[Report]) -> str:
    """Every report's means with 95 % intervals, in three blocks of rows."""
    lines = [_fitted(f"{_subject(reports[0])}, mean [95 % interval]", WIDTH)]
    for block in _BLOCKS:
        headings = [f"{title:<{width}}" for _, title, width in block]
        lines += ["", _row("policy", "controller", headings)]
        lines.append("-" * len(lines[-1]))
        for report in reports:
            cells = []
            for name, _, width in block:
                estimate = report.estimate(name)
                if width < 10:
                    cells.append(f"{100.0 * estimate.value:>{width}.1f}")
                else:
                    text = per_cent(estimate) if is_share(name) else with_interval(estimate)
                    cells.append(f"{text:<{width}}")
            lines.append(_row(report.policy_label, report.provenance.controller, cells))
    lines += ["", *textwrap.wrap(_GAPS, WIDTH)]
    if any(report.provenance.uses_truth for report in reports):
        lines.append("(truth): acts on the true state; an anchor, not a competitor")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def report_table(report: Report) -> str:
    """One report's metrics, one line each."""
    origin = report.provenance
    lines = [
        _fitted(f"{report.policy_label} / {origin.controller}", WIDTH),
        _fitted(_subject(report), WIDTH),
        "",
        f"{'metric':<20}{'mean [95 % interval]':<24}",
        "-" * WIDTH,
    ]
    for name, meaning in METRICS.items():
        estimate = report.estimate(name)
        text = f"{per_cent(estimate)} %" if is_share(name) else f"{with_interval(estimate)} s"
        lines.append(f"{name:<20}{text:<24}")
        lines.append(f"{'':<20}{meaning}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _subject(report: Report) -> str:
    origin = report.provenance
    seeds = len(origin.seeds)
    return (
        f"{origin.scenario} ({origin.scenario_hash}), {seeds} {'seed' if seeds == 1 else 'seeds'}"
    )


def _row(policy: str, controller: str, cells: Sequence[str]) -> str:
    names = (
        f"{_fitted(name, width):<{width}}"
        for name, width in zip((policy, controller), _NAME_WIDTHS, strict=True)
    )
    return " ".join((*names, *cells))


def _fitted(text: str, width: int) -> str:
    """The text, or its end where it is too long: the end of a path says most."""
    return text if len(text) <= width else "…" + text[-(width - 1) :]
