"""Where results come from: enough to tell whether a stored one still answers the question."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dtmarl.config import ConfigGroup, ScenarioConfig
from dtmarl.frame.controller import Controller
from dtmarl.policies import POLICIES, Policy, is_anchor

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What was run, on which seeds, with which code.

    Attributes:
        policy: registered name, or module and class, or the policy's own `name`.
        uses_truth: whether the policy acts on the true state: an anchor, not a competitor.
        controller: name of the scheme, or module and class.
        controller_settings: the scheme's fields; empty for other controllers.
        scenario: id of the scenario.
        scenario_hash: `ScenarioConfig.hash`.
        seeds: one episode each.
        dtmarl_version: of the package.
        numpy_version: of NumPy, which draws the random numbers.
        code_hash: first 16 hex digits of a SHA-256 over the package's files and, for a policy
            from elsewhere, the file that defines it.
    """

    policy: str
    uses_truth: bool
    controller: str
    controller_settings: dict[str, Any]
    scenario: str
    scenario_hash: str
    seeds: tuple[int, ...]
    dtmarl_version: str
    numpy_version: str
    code_hash: str


def provenance_of(
    policy: str | Policy,
    found_policy: Policy,
    config: ScenarioConfig,
    controller: Controller,
    seeds: tuple[int, ...],
) -> Provenance:
    """The provenance of an evaluation.

    Args:
        policy: as it was asked for.
        found_policy: the policy that this gave.
        config: the scenario.
        controller: the frame layer.
        seeds: one episode each.
    """
    from dtmarl import __version__  # the package's own file is not complete at import

    settings = controller.to_dict() if isinstance(controller, ConfigGroup) else {}
    return Provenance(
        policy=policy if isinstance(policy, str) else _name(policy),
        uses_truth=is_anchor(found_policy),
        controller=_name(controller),
        controller_settings=settings,
        scenario=config.id,
        scenario_hash=config.hash,
        seeds=seeds,
        dtmarl_version=__version__,
        numpy_version=np.__version__,
        code_hash=_code_hash(policy, found_policy),
    )


def checked_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """The seeds as a tuple of ints.

    Raises:
        ValueError: there are none, one comes twice, or one is not a non-negative integer.
    """
    if isinstance(seeds, str | bytes) or not isinstance(seeds, Iterable):
        raise ValueError(f"seeds: expected several non-negative integers, got {seeds!r}")
    given = list(seeds)
    for seed in given:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seeds: expected non-negative integers, got {seed!r}")
    if not given:
        raise ValueError("seeds: expected at least one, got none")
    if len(set(given)) < len(given):
        twice = sorted({int(seed) for seed in given if given.count(seed) > 1})
        raise ValueError(f"seeds: expected each one once, got {twice[:10]} more than once")
    return tuple(int(seed) for seed in given)


def _name(thing: Any) -> str:
    own = getattr(thing, "name", None)
    kind = type(thing)
    return own if isinstance(own, str) and own else f"{kind.__module__}:{kind.__qualname__}"


def _code_hash(policy: str | Policy, found: Policy) -> str:
    digest = hashlib.sha256(_package_digest())
    if not (isinstance(policy, str) and policy in POLICIES):
        try:
            source = inspect.getsourcefile(type(found))
        except TypeError:  # defined in an interactive session: there is no file
            source = None
        if source is not None and Path(source).is_file():
            digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:16]


@cache
def _package_digest() -> bytes:
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(_PACKAGE).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.digest()
