"""What a measurement is: a number beside its reference, and how both are timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Pair", "Row", "side_by_side", "table"]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    measured: float
    unit: str
    reference: float | None = None
    """The plain way, in the same unit."""
    target: float | None = None
    """At most this: the ratio where there is a reference, else the measured number."""
    best: float | None = None
    """The ratio of the fastest repetitions, which other people's load disturbs least."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Measured by reference."""
        return None if self.reference is None else self.measured / self.reference

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None without one."""
        told = self.measured if self.ratio is None else self.ratio
        return None if self.target is None else told <= self.target

    def as_json(self) -> dict[str, Any]:
        """Return the row with what follows from it."""
        return {**asdict(self), "ratio": self.ratio, "ok": self.ok}


@dataclass(frozen=True)
class Pair:
    """Seconds of the repetitions of two ways to do one thing."""

    measured: tuple[float, ...]
    reference: tuple[float, ...]

    def row(self, name: str, *, target: float | None = None, note: str = "") -> Row:
        """Return medians, their ratio, and the ratio of the fastest."""
        return Row(
            name,
            statistics.median(self.measured),
            "s",
            statistics.median(self.reference),
            target,
            min(self.measured) / min(self.reference),
            note,
        )


def side_by_side(measured: Callable[[], Any], reference: Callable[[], Any], repetitions: int) -> Pair:
    """Time two functions in turn, each first as often as second, after a call of each that does not count."""
    measured(), reference()
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for number in range(repetitions):
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            (measured, reference)[which]()
            seconds[which].append(time.perf_counter() - start)
    return Pair(tuple(seconds[0]), tuple(seconds[1]))


def _number(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.4g}{' ' + unit if unit else ''}"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    head = ("name", "measured", "reference", "ratio", "of the fastest", "target", "ok", "note")
    lines = [head]
    for row in rows:
        target = "" if row.target is None else f"≤ {_number(row.target, '' if row.reference else row.unit)}"
        ok = {None: "", True: "yes", False: "NO"}[row.ok]
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        best = "" if row.best is None else f"{row.best:.3f}"
        reference = _number(row.reference, row.unit) if row.reference is not None else ""
        lines.append((row.name, _number(row.measured, row.unit), reference, ratio, best, target, ok, row.note))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text)
