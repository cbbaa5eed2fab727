"""Figures of reports: delay and accuracy over slots, and means with intervals. Needs matplotlib."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.report import Report
from dtmarl.evaluation.table import is_share

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", ":")  # lines that lie on each other stay apart
_HINT = "plots need matplotlib: pip install 'dtmarl[plot]'"
_TITLES = {
    "system_delay_s": "mean delay (s)",
    "median_delay_s": "median delay (s)",
    "accuracy": "accuracy (%)",
    "breakout_rate": "break-outs (% of user-slots)",
    "peak_breakout_rate": "worst slot's break-outs (% of users)",
    "breakout_jump": "largest rise of break-outs in a slot (% of users)",
    "retrain_rate": "retraining (% of user-frames)",
    "optimality_gap": "above the slots' certified optimum (%)",
    "clairvoyant_gap": "above a bound over all associations (%)",
    "twin_gap": "above what the twin expects (%)",
    "twin_error": "error of the twin's expected delay (%)",
    "slot_bound_s": "certified bound on the slots' delay (s)",
    "clairvoyant_bound_s": "bound over all associations (s)",
}
_BOUNDS = {
    "slot_bound_s": "optimum, same frame decisions",
    "clairvoyant_bound_s": "bound over all associations",
}


def check_target(path: str | os.PathLike[str]) -> str:
    """The format of a figure's file by its suffix.

    Raises:
        ImportError: matplotlib is not installed; says how to install it.
        ValueError: the suffix is not one that matplotlib writes.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(_HINT) from error
    known = Figure().canvas.get_supported_filetypes()
    suffix = Path(path).suffix.lstrip(".").lower()
    if suffix not in known:
        raise ValueError(f"{os.fspath(path)}: expected one of the suffixes {sorted(known)}")
    return suffix


def plot_reports(reports: Sequence[Report], path: str | os.PathLike[str]) -> Path:
    """Draw system delay and accuracy over the slots, with 95 % bands over the seeds.

    A single report's delay stands above its lower bounds.

    Args:
        reports: one line each, on the same scenario.
        path: of the file; its suffix says the format, such as ``.png`` or ``.svg``.

    Returns:
        The path.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there are no reports, they differ in their number of slots, or the format is
            unknown.
    """
    check_target(path)
    lengths = {report.config.slots_per_episode for report in reports}
    if len(lengths) != 1:
        raise ValueError(
            f"reports: expected one or more of the same length, got {sorted(lengths)} slots"
        )
    figure = _figure(9.0, 6.6)
    delay, accuracy = figure.subplots(2, 1, sharex=True)
    opacity = 0.14 if len(reports) <= 4 else 0.08
    for index, (report, label) in enumerate(zip(reports, _labels(reports), strict=True)):
        style = {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _LINES[index % len(_LINES)],
        }
        for axes, name in ((delay, "system_delay_s"), (accuracy, "accuracy")):
            mean, low, high = (np.asarray(part) for part in report.curves[name])
            slots = np.arange(len(mean))
            axes.plot(slots, mean, label=label, linewidth=1.6, zorder=3, **style)
            if np.isfinite(low).all():
                axes.fill_between(
                    slots, low, high, color=style["color"], alpha=opacity, linewidth=0, zorder=2
                )
    if len(reports) == 1:  # the bounds depend on the frame decisions, so each report has its own
        for (name, label), line in zip(_BOUNDS.items(), ("--", ":"), strict=True):
            bound = np.asarray(reports[0].curves[name].mean)
            delay.plot(np.arange(len(bound)), bound, line, label=label, linewidth=1.2, color="0.4")
    config = reports[0].config
    threshold = config.learning.accuracy_threshold
    accuracy.axhline(threshold, color="0.25", linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    accuracy.annotate(
        f"threshold {threshold:g}",
        (1.0, threshold),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color="0.25",
    )
    delay.set_yscale("log")
    delay.yaxis.set_major_formatter(_plain_ticks())
    delay.yaxis.set_minor_formatter(_plain_ticks(few=True))
    delay.set_ylabel("system delay (s, log scale)")
    accuracy.set_ylabel("accuracy (mean over users)")
    accuracy.set_xlabel("slot")
    last = config.slots_per_episode - 1
    for axes in (delay, accuracy):
        axes.set_xlim(0, max(last, 1))
        if config.frames_per_episode <= 100:
            for frame in range(1, config.frames_per_episode):
                axes.axvline(frame * config.slots_per_frame, color="0.88", linewidth=0.8, zorder=0)
    seeds = len(reports[0].seeds)
    delay.set_title(
        f"{config.id}: mean over {seeds} {'seed' if seeds == 1 else 'seeds'}, 95 % bands; "
        "vertical lines are frame boundaries",
        fontsize=10,
        loc="left",
    )
    fitting = max(1, 105 // (max(map(len, _labels(reports))) + 8))
    rows = -(-len(reports) // fitting)
    columns = -(-len(reports) // rows)
    figure.legend(
        *delay.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False
    )
    return _save(figure, path)


def plot_means(
    reports: Sequence[Report],
    path: str | os.PathLike[str],
    *,
    metrics: Sequence[str] = (
        "system_delay_s",
        "accuracy",
        "breakout_rate",
        "retrain_rate",
        "optimality_gap",
        "twin_gap",
    ),
) -> Path:
    """Draw each report's means as points with their 95 % intervals, one panel for each metric.

    Args:
        reports: one row each.
        path: of the file; its suffix says the format.
        metrics: one panel each; two in a row.

    Returns:
        The path.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there are no reports or metrics, or the format is unknown.
    """
    check_target(path)
    if not reports or not metrics:
        raise ValueError(
            f"expected reports and metrics to draw, got {len(reports)} and {len(metrics)}"
        )
    rows = -(-len(metrics) // 2)
    figure = _figure(9.6, rows * (0.9 + 0.27 * len(reports)))
    panels = figure.subplots(rows, min(len(metrics), 2), sharey=True, squeeze=False)
    heights = np.arange(len(reports))[::-1]
    for axes, name in zip(panels.flat, metrics, strict=False):
        scale = 100.0 if is_share(name) else 1.0
        estimates = scale * np.asarray([report.estimate(name) for report in reports])
        axes.axvline(estimates[0, 0], color=_COLOURS[0], linewidth=0.9, linestyle=":", zorder=1)
        for (value, low, high), height in zip(estimates, heights, strict=True):
            axes.plot([low, high], [height, height], color=_COLOURS[0], linewidth=2.4, alpha=0.5)
            axes.plot([value], [height], marker="o", markersize=5.5, color=_COLOURS[0])
        axes.set_xlabel(_TITLES.get(name, name))
        _widest_scale(axes, name, estimates)
        axes.grid(axis="y", color="0.93")
        axes.grid(axis="x", color="0.88")
        axes.set_axisbelow(True)
        axes.set_ylim(-0.6, len(reports) - 0.4)
    for unused in list(panels.flat)[len(metrics) :]:
        unused.set_visible(False)
    for row in panels:
        row[0].set_yticks(heights, _labels(reports))
    seeds = len(reports[0].seeds)
    figure.suptitle(
        f"{reports[0].config.id}: means and 95 % intervals over {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'}; dotted: the first row's mean",
        fontsize=10,
    )
    return _save(figure, path)


def _widest_scale(axes: Any, name: str, estimates: np.ndarray) -> None:
    """A log axis where delays lie far apart; else shares and delays start at zero where near it."""
    values = estimates[:, 0]
    if not is_share(name) and values.min() > 0.0 and values.max() > 5.0 * values.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_plain_ticks())
        axes.xaxis.set_minor_formatter(_plain_ticks(few=True))
        axes.tick_params(axis="x", which="minor", pad=5)  # level with the major ticks' labels
        axes.set_xlabel(f"{axes.get_xlabel()}, log scale")
    elif values.min() < 0.5 * values.max():
        axes.set_xlim(left=min(0.0, float(np.nanmin(estimates))))


def _labels(reports: Sequence[Report]) -> list[str]:
    """What tells the reports apart: the policy, the controller, or both."""
    policies = [report.policy_label for report in reports]
    controllers = [report.provenance.controller for report in reports]
    if len(set(controllers)) == 1 and len(set(policies)) == len(reports):
        return policies
    if len(set(policies)) == 1 and len(set(controllers)) == len(reports):
        return controllers
    return [f"{p} / {c}" for p, c in zip(policies, controllers, strict=True)]


def _figure(width_in: float, height_in: float) -> Any:
    # No pyplot: it would keep every figure and pick a window system.
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, max(height_in, 2.6)), dpi=150, layout="constrained")


def _plain_ticks(*, few: bool = False) -> Any:
    from matplotlib.ticker import FuncFormatter

    def text(value: float, _: int) -> str:
        first = f"{value:e}"[0]
        return f"{value:g}" if not few or first in "25" else ""

    return FuncFormatter(text)


def _save(figure: Any, path: str | os.PathLike[str]) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=check_target(path))
    return write_atomically(path, buffer.getvalue())
