"""What a contract found: one line a check, and an error where one failed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs_embed.core.entry_points import FAULTS

__all__ = ["Check", "ContractError", "Report", "Skip", "close", "expect", "run_checks"]

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """One promise of a contract, and whether it is kept."""

    name: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""
    """What is wrong, or why it was not looked at."""

    def __str__(self) -> str:
        return f"{self.status:8}{self.name}{': ' if self.message else ''}{self.message}"


@dataclass(frozen=True)
class Report:
    """Every check of a model or a provider, in order."""

    subject: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def ok(self) -> bool:
        """Whether none failed."""
        return not self.failures

    def __str__(self) -> str:
        return "\n".join([self.subject, *(f"  {check}" for check in self.checks)])


class ContractError(AssertionError):
    """A model or a provider breaks its contract; ``report`` has every check."""

    def __init__(self, report: Report) -> None:
        failed = "\n".join(f"  {check.name}: {check.message}" for check in report.failures)
        super().__init__(f"{report.subject} fails {len(report.failures)} of {len(report.checks)} checks:\n{failed}")
        self.report = report


class Skip(Exception):  # noqa: N818  # a check's own way to say that it does not apply
    """The check does not apply, and why."""


def expect(kept: object, message: str) -> None:
    """Raise `AssertionError` with the message unless the promise is kept."""
    if not kept:
        raise AssertionError(message)


def close(one: ArrayLike, other: ArrayLike, relative: float) -> bool:
    """Whether two arrays have one shape and one set of NaN, and differ by at most ``relative`` of their length."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return False
    known: NDArray[np.bool_] = ~np.isnan(a)
    return bool(np.linalg.norm(a[known] - b[known]) <= relative * max(float(np.linalg.norm(b[known])), 1e-12))


def run_checks(subject: str, checks: Mapping[str, Callable[[T], None]], trial: T, *, raises: bool) -> Report:
    """Run every check, whatever the others find.

    Raises
    ------
    ContractError
        With ``raises``, if one of them failed.
    """
    done = []
    for name, check in checks.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done.append(_run(name, check, trial))
    report = Report(subject, tuple(done))
    if raises and not report.ok:
        raise ContractError(report)
    return report


def _run(name: str, check: Callable[[T], None], trial: T) -> Check:
    try:
        check(trial)
    except Skip as why:
        return Check(name, "skipped", str(why))
    except FAULTS as error:
        kind = "" if type(error) is AssertionError else f"{type(error).__name__}: "
        return Check(name, "failed", f"{kind}{error}")
    return Check(name, "passed")
