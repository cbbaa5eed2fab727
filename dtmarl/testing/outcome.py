"""How a rule ends: a violation found inside it, the error raised for it, its line in a report."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from dtmarl.testing.setting import Setting

Rule: TypeAlias = "Callable[[Setting], str | None]"
"""Raises `ConformanceError`; returns why it had nothing to check, or None."""


class Violation(Exception):
    """What a rule found, before the rule's name is attached to it."""

    def __init__(
        self, *, expected: str, found: str, agent: object = None, step: int | None = None
    ) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found
        self.agent = None if agent is None else str(agent)
        self.step = step


class ConformanceError(AssertionError):
    """An environment breaks a rule.

    Attributes:
        rule: the rule's name, a key of `RULES`.
        agent: the agent concerned, if one is.
        step: the step concerned (0 is the reset), if one is.
        expected: what the rule asks for.
        found: what came instead.
    """

    def __init__(
        self, rule: str, *, expected: str, found: str, agent: str | None, step: int | None
    ) -> None:
        self.rule = rule
        self.agent = agent
        self.step = step
        self.expected = expected
        self.found = found
        place = [f"agent {agent!r}"] if agent is not None else []
        if step is not None:
            place.append("reset" if step == 0 else f"step {step}")
        where = f" ({', '.join(place)})" if place else ""
        super().__init__(f"rule {rule!r}{where}: expected {expected}; found {found}")

    def __reduce__(self) -> tuple[object, ...]:
        fields = {"expected": self.expected, "found": self.found}
        rebuild = functools.partial(
            ConformanceError, self.rule, **fields, agent=self.agent, step=self.step
        )
        return rebuild, ()


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """What one rule said about one environment.

    Attributes:
        rule: the rule's name, a key of `RULES`.
        passed: whether the environment keeps the rule.
        note: why the rule had nothing to check (it then counts as passed), or "".
        error: the violation, or None.
        duration_s: wall-clock time the rule took.
    """

    rule: str
    passed: bool
    note: str
    error: ConformanceError | None
    duration_s: float

    def __str__(self) -> str:
        if self.error is not None:
            return f"FAIL {self.error}"
        return f"ok   {self.rule}" + (f" (nothing to check: {self.note})" if self.note else "")


def rule(check: Rule) -> Rule:
    """Make a rule of a check: its violations, and surprises in the environment, carry its name."""
    name = check.__name__

    @functools.wraps(check)
    def named(setting: Setting) -> str | None:
        try:
            return check(setting)
        except Violation as violation:
            raise ConformanceError(
                name,
                expected=violation.expected,
                found=violation.found,
                agent=violation.agent,
                step=violation.step,
            ) from violation.__cause__
        except Exception as error:
            raise ConformanceError(
                name,
                expected="no exception",
                found=f"{type(error).__name__}: {error}",
                agent=None,
                step=None,
            ) from error

    return named
