"""Spans of time, validated when they are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from rs_embed.core.checks import check_choice, check_number
from rs_embed.core.errors import SpecError

__all__ = ["TemporalSpec"]


def _moment(name: str, value: Any) -> datetime:
    """Return an ISO text, date or datetime as an aware UTC datetime."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise SpecError(f"TemporalSpec.{name}={value!r} is not an ISO date such as '2022-06-01'") from error
    if not isinstance(value, datetime):
        raise SpecError(f"TemporalSpec.{name}={value!r} is not a date; give text such as '2022-06-01'")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _shifted(moment: datetime, days: float) -> datetime:
    """Return the moment some days later."""
    try:
        return moment + timedelta(days=days)
    except OverflowError as error:
        raise SpecError(f"{moment.date()} {days:+g} days lies outside the calendar (years 1 to 9999)") from error


def _text(moment: datetime) -> str:
    return moment.date().isoformat() if moment.time() == datetime.min.time() else moment.isoformat()


@dataclass(frozen=True)
class TemporalSpec:
    """A half-open span of time ``[start, end)``: use the factories `year`, `range`, `around`, `years`, `parse`."""

    mode: Literal["year", "range"]
    year: int | None = None
    start: str | None = None
    end: str | None = None

    def __post_init__(self) -> None:
        check_choice("TemporalSpec", "mode", self.mode, ("year", "range"))
        if self.mode == "year":
            if isinstance(self.year, bool) or not re.fullmatch(r"[0-9]{1,4}", str(self.year).strip()):
                raise SpecError(f"TemporalSpec.year={self.year!r} must be a whole number such as 2022")
            object.__setattr__(self, "year", int(str(self.year).strip()))
        else:
            for name in ("start", "end"):
                if getattr(self, name) is None:
                    raise SpecError(f"TemporalSpec.{name} is missing; TemporalSpec.range(start, end) needs both dates")
                object.__setattr__(self, name, _text(_moment(name, getattr(self, name))))
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless the span is one."""
        if self.mode == "year" and not 1 <= int(self.year or 0) <= 9998:
            raise SpecError(f"TemporalSpec.year={self.year} is not between 1 and 9998")
        start, end = self.interval
        if start >= end:
            raise SpecError(f"TemporalSpec start={self.start!r} must lie before end={self.end!r} (the end is excluded)")

    @property
    def interval(self) -> tuple[datetime, datetime]:
        """Start (included) and end (excluded), aware datetimes in UTC."""
        if self.mode == "year":
            year = int(self.year or 0)
            return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        return _moment("start", self.start), _moment("end", self.end)

    @classmethod
    def range(cls, start: Any, end: Any) -> TemporalSpec:
        """The span ``[start, end)``; dates as ISO text, ``date`` or ``datetime`` (UTC where none is given)."""
        return cls(mode="range", start=start, end=end)

    @classmethod
    def around(cls, date: Any, days: float = 15) -> TemporalSpec:
        """``days`` days before ``date`` to ``days`` days after its end (the day itself is included)."""
        half = check_number("TemporalSpec", "days", days)
        if not 0 <= half <= 36525:
            raise SpecError(f"TemporalSpec.around(days={days}) must not be negative, nor more than a century")
        moment = _moment("date", date)
        return cls.range(_shifted(moment, -half), _shifted(moment, half + 1))

    @classmethod
    def years(cls, first: int, last: int) -> tuple[TemporalSpec, ...]:
        """One span a year, from ``first`` to ``last``, both included."""
        ends = (cls(mode="year", year=first), cls(mode="year", year=last))
        start, end = (int(e.year or 0) for e in ends)
        if start > end:
            raise SpecError(f"TemporalSpec.years({first}, {last}) ends before it starts")
        return tuple(cls(mode="year", year=y) for y in range(start, end + 1))

    @classmethod
    def parse(cls, text: str) -> TemporalSpec:
        """Read ``2022``, ``2022-06``, ``2022-06-15`` or ``2022-06-01/2022-09-01`` (end excluded)."""
        parts = str(text).strip().split("/")
        if len(parts) == 2:
            return cls.range(parts[0], parts[1])
        value = parts[0]
        if len(parts) == 1 and len(value) == 4 and value.isdigit():
            return cls(mode="year", year=int(value))
        if len(parts) == 1 and len(value) == 7:
            start = _moment("start", f"{value}-01")
            return cls.range(start, _shifted(start, 32).replace(day=1))
        if len(parts) == 1 and len(value) == 10:
            start = _moment("start", value)
            return cls.range(start, _shifted(start, 1))
        raise SpecError(f"time {text!r} is not understood; write 2022, 2022-06, 2022-06-15 or 2022-06-01/2022-09-01")


class _YearFactory:
    """``TemporalSpec.year(2022)`` makes a spec, while ``spec.year`` is the number: a descriptor without ``__set__``."""

    def __get__(self, instance: TemporalSpec | None, owner: type[TemporalSpec]) -> Any:
        if instance is not None:
            return None

        def year(year: int) -> TemporalSpec:
            """The calendar year ``year``."""
            return owner(mode="year", year=year)

        return year


TemporalSpec.year = _YearFactory()  # type: ignore[assignment]
