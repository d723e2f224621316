"""Lines and tables on the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "counted", "fail", "note", "print_json", "print_table", "say_size"]

WIDE = 400
"""Columns of a table that is not read on a terminal, so that nothing is cut."""


def _coloured() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None


def _line(text: str) -> str:
    return " ".join(str(text).split())


def fail(message: str) -> None:
    """Print an error as one red line on standard error."""
    typer.secho(f"error: {_line(message)}", fg="red", err=True, color=_coloured())


def note(message: str) -> None:
    """Print a warning or a remark as one yellow line on standard error."""
    typer.secho(_line(message), fg="yellow", err=True, color=_coloured())


def print_json(value: Any) -> None:
    """Print indented JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def console() -> Console:
    """Return a console on standard output: as wide as the terminal, or wide enough for all."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, emoji=False, soft_wrap=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print rows of plain text under their columns.

    Parameters
    ----------
    columns
        Titles.
    rows
        Cells; ``[`` has no meaning in them.
    right
        Titles of the columns of numbers.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=any(columns))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if column in right else "left", overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def counted(count: int, noun: str) -> str:
    """Return ``1 scene``, ``2 scenes``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def say_size(count: int | None) -> str:
    """Return a number of bytes for people."""
    if count is None:
        return "?"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
