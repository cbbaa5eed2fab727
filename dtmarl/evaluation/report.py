"""What an evaluation found, with where it came from; a value that survives a JSON round trip."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dtmarl.config import ScenarioConfig
from dtmarl.evaluation.files import write_atomically
from dtmarl.evaluation.provenance import Provenance
from dtmarl.evaluation.rollout import CURVES, METRICS, EpisodeRecord, episode_metrics
from dtmarl.evaluation.statistics import Estimate, mean_estimate, mean_interval, ratio_estimate

_FORMAT = "dtmarl-report-2"
_BAND_RESAMPLES = 1999


class Curve(NamedTuple):
    """A quantity over the slots of an episode: mean over seeds and its 95 % band; T slots."""

    mean: tuple[float, ...]  # [T]
    low: tuple[float, ...]  # [T]
    high: tuple[float, ...]  # [T]


@dataclass(frozen=True, kw_only=True)
class Report:
    """One policy under one controller in one scenario, over several seeds.

    Attributes:
        provenance: what was run, on which seeds, with which code.
        config: the scenario's configuration.
        per_seed: metric → one value for each seed; the metrics are those of
            `dtmarl.evaluation.METRICS`.
        curves: per-slot quantity → its mean over seeds and band.
    """

    provenance: Provenance
    config: ScenarioConfig
    per_seed: Mapping[str, tuple[float, ...]]
    curves: Mapping[str, Curve]

    @classmethod
    def from_records(
        cls, provenance: Provenance, config: ScenarioConfig, records: Sequence[EpisodeRecord]
    ) -> Report:
        """The report on some episodes, in the order of the provenance's seeds."""
        metrics = [episode_metrics(record) for record in records]
        curves = {}
        for name in CURVES:
            values = np.stack([getattr(record, name) for record in records])
            low, high = mean_interval(values, num_resamples=_BAND_RESAMPLES)
            curves[name] = Curve(*(tuple(c.tolist()) for c in (values.mean(axis=0), low, high)))
        return cls(
            provenance=provenance,
            config=config,
            per_seed={name: tuple(episode[name] for episode in metrics) for name in METRICS},
            curves=curves,
        )

    @property
    def policy_label(self) -> str:
        """The policy for people; one that acts on the truth is marked."""
        return self.provenance.policy + " (truth)" * self.provenance.uses_truth

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of `per_seed`."""
        return self.provenance.seeds

    def values(self, name: str) -> tuple[float, ...]:
        """A metric's value for each seed.

        Raises:
            ValueError: there is no metric of this name.
        """
        if name not in self.per_seed:
            raise ValueError(f"metric: expected one of {list(self.per_seed)}, got {name!r}")
        return self.per_seed[name]

    def mean(self, name: str) -> float:
        """A metric's mean over the seeds.

        Raises:
            ValueError: there is no metric of this name.
        """
        return float(np.mean(self.values(name)))

    def estimate(self, name: str) -> Estimate:
        """A metric's mean over the seeds with its 95 % interval.

        Raises:
            ValueError: there is no metric of this name.
        """
        return mean_estimate(np.asarray(self.values(name)))

    def interval(self, name: str) -> tuple[float, float]:
        """A metric's 95 % interval over the seeds (BCa bootstrap); NaNs for a single seed.

        Raises:
            ValueError: there is no metric of this name.
        """
        _, low, high = self.estimate(name)
        return low, high

    def difference(self, other: Report, name: str) -> Estimate:
        """This report's metric minus the other's, paired by seed, with its 95 % interval.

        Raises:
            ValueError: there is no metric of this name, or the seeds differ.
        """
        return mean_estimate(np.subtract(*self._paired(other, name)))

    def ratio(self, other: Report, name: str) -> Estimate:
        """This report's mean over the other's, paired by seed, with its 95 % interval.

        Raises:
            ValueError: there is no metric of this name, the seeds differ, or the other's values
                are not positive.
        """
        return ratio_estimate(*self._paired(other, name))

    def _paired(self, other: Report, name: str) -> tuple[np.ndarray, np.ndarray]:
        if sorted(self.seeds) != sorted(other.seeds):
            raise ValueError(
                f"other: expected a report on the seeds {sorted(self.seeds)}, "
                f"got one on {sorted(other.seeds)}"
            )
        mine, theirs = (np.asarray(report.values(name)) for report in (self, other))
        return mine[np.argsort(self.seeds)], theirs[np.argsort(other.seeds)]

    def summary(self) -> dict[str, Any]:
        """Means and intervals by metric, as plain values; None stands for an undefined bound."""
        return {name: self.estimate(name).to_dict() for name in self.per_seed}

    def to_json(self) -> str:
        """The report as strict JSON; intervals are there to be read, and computed anew on loading.

        Undefined bounds are null.
        """
        summary = self.summary()
        content = {
            "format": _FORMAT,
            "provenance": asdict(self.provenance),
            "config": self.config.to_dict(),
            "metrics": {
                name: {**summary[name], "per_seed": list(values)}
                for name, values in self.per_seed.items()
            },
            "curves": {
                name: {part: _nan_to_none(getattr(curve, part)) for part in Curve._fields}
                for name, curve in self.curves.items()
            },
        }
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote.

        Raises:
            ValueError: it is not JSON, or not a whole report.
        """
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise ValueError(f"its format is {content['format']!r}")
            provenance = dict(content["provenance"])
            expected = {f.name for f in fields(Provenance)}
            if provenance.keys() != expected:
                raise ValueError(f"its provenance has {sorted(provenance)}")
            if not isinstance(provenance["uses_truth"], bool):
                raise ValueError(f"its uses_truth is {provenance['uses_truth']!r}")
            provenance["seeds"] = tuple(int(seed) for seed in provenance["seeds"])
            config = ScenarioConfig.from_json(json.dumps(content["config"]))
            report = cls(
                provenance=Provenance(**provenance),
                config=config,
                per_seed={
                    name: _numbers(content["metrics"][name]["per_seed"], len(provenance["seeds"]))
                    for name in METRICS
                },
                curves={
                    name: Curve(
                        *(
                            _numbers(
                                content["curves"][name][part],
                                config.slots_per_episode,
                                optional=part != "mean",
                            )
                            for part in Curve._fields
                        )
                    )
                    for name in CURVES
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"expected a report in the format {_FORMAT}: {reason}") from error
        return report

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as a JSON file, whole or not at all; missing folders are made."""
        return write_atomically(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """The report in a file that `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not a whole report; names the file.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8", errors="replace"))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error


def _nan_to_none(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _numbers(values: Any, length: int, *, optional: bool = False) -> tuple[float, ...]:
    """Finite numbers of a JSON list; where optional, null stands for NaN."""
    if not isinstance(values, list) or len(values) != length:
        raise ValueError(f"it has something else where {length} numbers should be")
    for value in values:
        if optional and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"it has {value!r} where a number should be")
        if not math.isfinite(value):
            raise ValueError(f"it has {value!r} where a finite number should be")
    return tuple(math.nan if value is None else float(value) for value in values)
