"""What a model costs: lines of its files, of code alone and altogether."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

import rs_embed
from benchmarks.rows import Row

__all__ = ["run"]

SOURCE = Path(rs_embed.__file__).parent
SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def run(quick: bool) -> Iterator[Row]:
    """Yield the files of models and nets: lines of functions and classes; the note gives data and the whole."""
    for folder in ("models", "nets"):
        for file in sorted((SOURCE / folder).glob("*.py")):
            if file.name == "__init__.py":
                continue
            logic, code = _logic(file), _code(file)
            whole = len(file.read_text(encoding="utf-8").splitlines())
            note = f"with tables, specs and imports {len(code)}, with docstrings and comments {whole}"
            yield Row(f"{folder}/{file.name}", len(logic & code), "lines", note=note)


def _code(file: Path) -> set[int]:
    """Numbers of the lines that hold code."""
    with file.open("rb") as stream:
        tokens = list(tokenize.tokenize(stream.readline))
    lines: set[int] = set()
    for token in tokens[1:]:
        alone = token.type == tokenize.STRING and token.line.strip().startswith(('"""', 'r"""'))
        if token.type not in SKIPPED and not alone:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def _logic(file: Path) -> set[int]:
    """Numbers of the lines of functions and classes."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    made = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return {line for node in made for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
