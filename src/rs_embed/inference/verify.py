"""The certificate: our nets and preprocessing against what the authors' own code computed.

A golden file holds outputs of the authors' code on weights and inputs that a rule rebuilds from names (the README beside
the files). An implementation that loads the same weights under the same names and gives the same outputs is the same
function.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import ModelError, RSEmbedError, SpecError
from rs_embed.core.model_spec import Build, Certificate, GoldenCase, ModelSpec
from rs_embed.core.registry import get_spec

__all__ = ["Row", "golden_array", "golden_weight", "records", "verify"]

TOLERANCE = 2e-5
"""Of outputs: max |difference| / max |wanted|."""

NORMALIZATION_TOLERANCE = 1e-5
"""Of each element: |difference| / (1 + |wanted|)."""

NORMALIZATION = "normalization"
_WRONG = (
    *(RSEmbedError, ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError),
    *(OSError, EOFError, NotImplementedError, ImportError, pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What a net raises at a case that it cannot run, or a damaged file: the case fails, the others are still run."""

Arrays = Mapping[str, NDArray[Any]]
Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One comparison."""

    model: str
    case: str
    output: str
    error: float
    """Largest relative error; infinite where there is nothing to compare."""
    tolerance: float
    ok: bool
    note: str = ""
    """Why there is no number; or that the catalogue lacks the model."""

    @property
    def notice(self) -> bool:
        """Whether the row only says that the catalogue does not have the file's model yet."""
        return self.ok and not self.case


def records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the comparisons for ``--json``: notices are left out, an infinite error is the largest float."""
    return [
        {
            "model": row.model,
            "case": row.case,
            "output": row.output,
            "error": min(row.error, sys.float_info.max),
            "tolerance": row.tolerance,
            "ok": row.ok,
        }
        for row in rows
        if not row.notice
    ]


def _generator(name: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def golden_weight(name: str, shape: Sequence[int], *, seed: int) -> NDArray[np.float32]:
    """Return the float32 value that the golden rule gives the parameter `name`."""
    value = _generator(name, seed).standard_normal(tuple(shape))
    if len(shape) >= 2:
        value = value / np.sqrt(math.prod(shape[1:]))
    elif name.endswith(("weight", "gamma", "scale")):
        value = 1.0 + 0.1 * value
    else:
        value = 0.1 * value
    return np.asarray(value, np.float32)


def golden_array(rule: Spec, *, seed: int) -> NDArray[Any]:
    """Return the input that a golden rule describes: normal, uniform, integers, or the values themselves."""
    shape, kind = tuple(rule.get("shape", ())), rule["kind"]
    generator = _generator(rule["name"], seed)
    if kind == "normal":
        value: Any = rule["mean"] + rule["std"] * generator.standard_normal(shape)
    elif kind == "uniform":
        value = rule["low"] + (rule["high"] - rule["low"]) * generator.random(shape)
    elif kind == "integers":
        value = generator.integers(rule["low"], rule["high"], size=shape)
    elif kind == "values":
        value = np.array(rule["values"])
    else:
        raise ValueError(f"unknown kind of input {kind!r} in the golden rule {rule['name']!r}")
    return np.asarray(value, dtype=rule["dtype"])


@dataclass(frozen=True)
class _File:
    """A golden file of a model of the catalogue."""

    path: Path
    described: Spec
    arrays: Arrays
    spec: ModelSpec

    @property
    def seed(self) -> int:
        return int(self.described["seed"])

    def certificate(self) -> Certificate:
        if self.spec.certificate is None:
            raise ModelError(f"model {self.spec.name} has no certificate, its golden file cannot be run")
        return self.spec.certificate()


def verify(
    models: Sequence[str] | None = None, case: str | None = None, golden: str | Path | None = None
) -> list[Row]:
    """Run the golden files of the catalogue's models.

    Parameters
    ----------
    models : sequence of str, optional
        Names or aliases; all files where absent. A model named here has to have a file.
    case : str, optional
        Pattern (fnmatch) of the cases; preprocessing is ``normalization``, the shapes of a published variant are
        ``published/<variant>``.
    golden : str or Path, optional
        Folder of the golden files; ``tests/golden`` of the checkout where absent.

    Returns
    -------
    list of Row
        One an output; a file of a model that the catalogue lacks is one row with no case (`Row.notice`).

    Raises
    ------
    SpecError
        If the folder does not exist, or no case matches.
    """
    folder = _folder(golden)
    pattern = case or "*"
    files = {path: _described(path) for path in sorted(folder.glob("*.json"))}
    rows: list[Row] = []
    for path, described in files.items():
        name = str(described.get("model", path.stem))
        if models is None or any(_same(asked, name) for asked in models):
            rows += _rows(path, described, name, pattern, asked=models is not None)
    names = [str(described.get("model", path.stem)) for path, described in files.items()]
    rows += [
        _failure(asked, "", "", f"no golden file of this model in {folder.name}")
        for asked in models or ()
        if not any(_same(asked, name) for name in names)
    ]
    if not any(not row.notice for row in rows):
        raise SpecError(f"nothing to verify: no case matches {pattern!r} in {len(files)} golden files of {folder}")
    return rows


def _folder(golden: str | Path | None) -> Path:
    folder = Path(__file__).parents[3] / "tests" / "golden" if golden is None else Path(golden).expanduser()
    if not folder.is_dir():
        raise SpecError(f"golden={str(folder)!r} is not a folder; name that of the golden files (--golden DIR)")
    return folder.resolve()


def _described(path: Path) -> Spec:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {"unreadable": f"{type(error).__name__}: {error}"}
    return found if isinstance(found, dict) else {"unreadable": "not an object"}


def _find(name: str) -> ModelSpec | None:
    try:
        return get_spec(name)
    except ModelError:
        return None


def _same(asked: str, name: str) -> bool:
    """Whether a name or alias means a file's model."""
    spec = _find(asked)
    return asked.strip().lower() == name.lower() or (spec is not None and spec == _find(name))


def _failure(model: str, case: str, output: str, note: str, tolerance: float = TOLERANCE) -> Row:
    return Row(model, case, output, math.inf, tolerance, False, note)


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:400]}"


def _rows(path: Path, described: Spec, name: str, pattern: str, *, asked: bool) -> list[Row]:
    """The rows of one golden file."""
    spec = _find(name)
    if "unreadable" in described:
        return [_failure(name, "", "", f"{path.name} cannot be read: {described['unreadable']}")]
    if spec is None:
        note = "not in the catalogue"
        return [_failure(name, "", "", note) if asked else Row(name, "", "", 0.0, TOLERANCE, True, note)]
    try:
        with np.load(path.with_suffix(".npz")) as stored:
            arrays = {key: stored[key] for key in stored.files}
        return list(_checks(_File(path, described, arrays, spec), pattern))
    except _WRONG as error:
        return [_failure(name, "", "", f"{path.name} cannot be read: {_said(error)}")]


def _checks(file: _File, pattern: str) -> Iterator[Row]:
    def wanted(name: str) -> bool:
        return fnmatch.fnmatchcase(name, pattern)

    for name in filter(wanted, file.described.get("cases", {})):
        yield from _case(file, name)
    if wanted(NORMALIZATION) and NORMALIZATION in file.described:
        yield from _normalization(file)
    for variant in file.described.get("published", {}):
        if wanted(f"published/{variant}"):
            yield from _published(file, variant)


def relative_error(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return max |difference| / max |wanted| over finite values; infinite where shapes or NaN differ."""
    return _compare(got, wanted, lambda difference, value: float(difference.max() / (value.max() or math.inf)))


def element_error(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return max |difference| / (1 + |wanted|): at most 1e-5 where |difference| <= 1e-5 + 1e-5 |wanted|."""
    return _compare(got, wanted, lambda difference, value: float((difference / (1 + value)).max()))


def _compare(
    got: NDArray[Any],
    wanted: NDArray[Any],
    measure: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
) -> float:
    a, b = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if a.shape != b.shape:
        return math.inf
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return math.inf
    difference = np.abs(a[finite] - b[finite])
    if not difference.size or not difference.any():
        return 0.0
    value = np.abs(b[finite])
    return math.inf if not value.any() and measure is not None and difference.max() > 1e-30 and _absolute(measure, difference) else measure(difference, value)
