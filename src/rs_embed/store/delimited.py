"""Regions in delimited text: CSV with commas, semicolons, tabs or bars."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from rs_embed.core.errors import SpecError
from rs_embed.core.region_columns import Table

__all__ = ["decode", "read_delimited"]

DELIMITERS = ",;\t|"
_LONGEST_CELL = 2**30
"""Characters: outlines of countries are long."""
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def decode(data: bytes, owner: str) -> str:
    """Return text in UTF-8, or in UTF-16 with a byte order mark, without that mark.

    Raises
    ------
    SpecError
        If it is neither.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise SpecError(f"{owner}: byte {error.start} is not UTF-8; save the file as UTF-8") from error


def read_delimited(text: str, owner: str) -> Table:
    """Return the rows of delimited text; the first line names the columns.

    Columns that hold nothing but numbers become numbers (``007`` stays text), an empty cell is ``None``.

    Raises
    ------
    SpecError
        If there is no line, a column has no name or two have one, or a line is longer or shorter than the first.
    """
    first = text.lstrip("\r\n").partition("\n")[0]
    bare = re.sub(r'"[^"]*"', "", first)
    delimiter = max(DELIMITERS, key=bare.count)
    limit = csv.field_size_limit(_LONGEST_CELL)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    numbers: list[int] = []
    try:
        for row in lines:
            if any(cell.strip() for cell in row):
                rows.append(row)
                numbers.append(lines.line_num)
    except csv.Error as error:
        raise SpecError(f"{owner}: line {lines.line_num} is not delimited text ({error})") from error
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise SpecError(f"{owner} is empty: it holds no region")
    names = [name.strip() for name in rows[0]]
    _check_lines(names, rows, numbers, owner)
    columns = {name: _typed([row[i].strip() for row in rows[1:]]) for i, name in enumerate(names)}
    return Table(owner, columns, noun="line", numbers=numbers[1:])


def _check_lines(names: list[str], rows: list[list[str]], numbers: list[int], owner: str) -> None:
    """Refuse columns without a name of their own, and lines of another length."""
    for name in names:
        if not name or names.count(name) > 1:
            what = f"two columns called {name!r}" if name else "a column without a name"
            raise SpecError(f"{owner}: line {numbers[0]} has {what}; name each column once in the first line")
    odd = [(n, len(row)) for n, row in zip(numbers, rows, strict=True) if len(row) != len(names)]
    if odd:
        told = ", ".join(f"line {number} has {count}" for number, count in odd[:5])
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise SpecError(
            f"{owner}: the first line names {len(names)} columns ({', '.join(names)}), but {told}{more}; "
            "put text with delimiters into quotes"
        )


def _typed(cells: list[str]) -> Sequence[Any]:
    """Return a column as whole numbers or numbers where every cell is one."""
    known = [cell for cell in cells if cell]
    if known and all(_WHOLE.fullmatch(cell) for cell in known):
        return [int(cell) if cell else None for cell in cells]
    if known and all(_NUMBER.fullmatch(cell) and not re.match(r"[-+]?0\d", cell) for cell in known):
        return [float(cell) if cell else None for cell in cells]
    return [cell or None for cell in cells]
