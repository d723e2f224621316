"""The certificate: our nets and preprocessing against what the authors' own code computed.

An implementation that loads the same weights under the same names and gives the same outputs is the same function; the
published checkpoints differ only in the numbers inside.
"""

from __future__ import annotations

import fnmatch
import math
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import ModelError, RSEmbedError, SpecError
from rs_embed.core.model_spec import Build, Certificate, ModelSpec
from rs_embed.core.registry import get_spec
from rs_embed.inference.golden import GoldenFile, element_error, relative_error
from rs_embed.inference.weights import differences, require

__all__ = ["Row", "records", "verify"]

TOLERANCE = 2e-5
"""Of outputs: max |difference| / max |wanted|."""

NORMALIZATION_TOLERANCE = 1e-5
"""Of preprocessing: max of |difference| / (1 + |wanted|)."""

NORMALIZATION = "normalization"

_WRONG = (
    *(RSEmbedError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(OSError, EOFError, ImportError, pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What a net raises at a case that it cannot run, and a damaged file when it is read: the others are still run."""


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
    """Why there is no number, or that the catalogue lacks the model."""

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


def verify(models: Sequence[str] | None = None, case: str | None = None, golden: str | Path | None = None) -> list[Row]:
    """Run the golden files of the catalogue's models.

    Parameters
    ----------
    models : sequence of str, optional
        Names or aliases; all files where absent or empty. A model named here has to have a file.
    case : str, optional
        Pattern (fnmatch) of the cases; preprocessing is ``normalization``, the parameters of a published variant are
        ``published/<variant>``.
    golden : str or Path, optional
        Folder of the golden files; ``tests/golden`` of the checkout where absent.

    Returns
    -------
    list of Row
        One an output; a file of a model that the catalogue lacks is one row without a case (`Row.notice`).

    Raises
    ------
    SpecError
        If the folder does not exist, or nothing is to be verified.
    """
    folder, pattern = _folder(golden), case or "*"
    rows: list[Row] = []
    met: set[str] = set()
    for path in sorted(folder.glob("*.json")):
        try:
            file = GoldenFile.open(path)
        except (OSError, ValueError) as error:
            rows.append(_failure(path.stem, "", "", f"{path.name} cannot be read: {_said(error)}"))
            continue
        asked = [each for each in models or () if _same(each, file.model)]
        met |= set(asked)
        if asked or not models:
            rows += _rows(file, pattern, asked=bool(asked))
    rows += [_failure(each, "", "", "no golden file of this model") for each in models or () if each not in met]
    if all(row.notice for row in rows):
        raise SpecError(f"nothing to verify: no case of a model of the catalogue matches case={pattern!r} in {folder}")
    return rows


def _folder(golden: str | Path | None) -> Path:
    folder = Path(__file__).parents[3] / "tests" / "golden" if golden is None else Path(golden).expanduser()
    if not folder.is_dir():
        raise SpecError(f"golden={str(folder)!r} is not a folder; name that of the golden files (--golden DIR)")
    return folder.resolve()


def _find(name: str) -> ModelSpec | None:
    try:
        return get_spec(name)
    except ModelError:
        return None


def _same(asked: str, name: str) -> bool:
    """Whether a name or alias means a file's model."""
    spec = _find(asked)
    return asked.strip().lower() == name.lower() or (spec is not None and spec is _find(name))


def _failure(model: str, case: str, output: str, note: str, tolerance: float = TOLERANCE) -> Row:
    return Row(model, case, output, math.inf, tolerance, False, note)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _rows(file: GoldenFile, pattern: str, *, asked: bool) -> list[Row]:
    """The rows of one golden file."""
    spec = _find(file.model)
    if spec is None:
        note = "not in the catalogue"
        return [_failure(file.model, "", "", note) if asked else Row(file.model, "", "", 0.0, TOLERANCE, True, note)]
    try:
        if spec.certificate is None:
            raise ModelError(f"model {spec.name} has a golden file and no certificate to run it with")
        return list(_checks(file, spec, spec.certificate(), pattern))
    except _WRONG as error:
        return [_failure(file.model, "", "", f"{file.path.name} cannot be used: {_said(error)}")]


def _checks(file: GoldenFile, spec: ModelSpec, certificate: Certificate, pattern: str) -> Iterator[Row]:
    wanted = fnmatch.filter(file.described.get("cases", {}), pattern)
    ours = fnmatch.filter(wanted, certificate.cases)
    for name in ours:
        yield from _case(file, certificate, name)
    if others := [name for name in wanted if name not in ours]:
        yield Row(file.model, "", "", 0.0, TOLERANCE, True, f"not in the catalogue: what {', '.join(others)} test")
    if certificate.cases != "*":
        return
    if NORMALIZATION in file.described and fnmatch.fnmatchcase(NORMALIZATION, pattern):
        yield from _normalization(file, certificate)
    for variant in file.described.get("published", {}):
        if fnmatch.fnmatchcase(name := f"published/{variant}", pattern):
            yield _published(file, spec, certificate, variant=variant, name=name)


def _case(file: GoldenFile, certificate: Certificate, name: str) -> Iterator[Row]:
    described = file.described["cases"][name]
    allowed = described.get("tolerance", TOLERANCE)
    try:
        got, why = certificate.run(file.case(name)), ""
    except _WRONG as error:
        got, why = {}, _said(error)
    for output in described["outputs"]:
        tolerance = float(allowed.get(output, TOLERANCE) if isinstance(allowed, Mapping) else allowed)
        wanted = file.arrays.get(f"{name}/out/{output}")
        yield _row(file, name, output, got.get(output), wanted, relative_error, tolerance, why)


def _row(
    file: GoldenFile,
    case: str,
    output: str,
    got: NDArray[Any] | None,
    wanted: NDArray[Any] | None,
    measure: Callable[[NDArray[Any], NDArray[Any]], float],
    tolerance: float,
    why: str,
) -> Row:
    if wanted is None:
        return _failure(file.model, case, output, f"{file.path.stem}.npz does not hold this output", tolerance)
    if got is None:
        return _failure(file.model, case, output, why or "our code does not give this output", tolerance)
    error = measure(got, wanted)
    note = f"shape {got.shape} instead of {wanted.shape}" if got.shape != wanted.shape else ""
    if math.isinf(error) and not note:
        note = "NaN or infinite in other places than wanted, or all zeros wanted"
    return Row(file.model, case, output, error, tolerance, error <= tolerance, note)


def _normalization(file: GoldenFile, certificate: Certificate) -> Iterator[Row]:
    section = file.described[NORMALIZATION]
    parameters = section.get("parameters") or {}
    for output in section["output"]:
        got, why = None, "the certificate does not normalize"
        try:
            if certificate.normalize is not None:
                found = certificate.normalize(file.normalization_inputs(output), parameters)
                got, why = found.get(output), ""
                got = None if got is None else _stored(got, parameters.get(output))
        except _WRONG as error:
            why = _said(error)
        wanted = file.arrays.get(f"norm/{output}")
        yield _row(file, NORMALIZATION, output, got, wanted, element_error, NORMALIZATION_TOLERANCE, why)


def _stored(array: NDArray[Any], parameters: Any) -> NDArray[Any]:
    """The rows and columns that a golden file keeps of a large output: ``stored`` is (start, step) of each."""
    stored = parameters.get("stored") if isinstance(parameters, Mapping) else None
    if stored is None:
        return array
    rows, columns = (slice(start, None, step) for start, step in stored)
    kept: NDArray[Any] = array[..., rows, columns]
    return kept


def _published(file: GoldenFile, spec: ModelSpec, certificate: Certificate, *, variant: str, name: str) -> Row:
    """Names and shapes of a published variant, of the authors' configuration and of our catalogue's."""
    described = file.described["published"][variant]
    try:
        faults = _shape_faults(described, spec, certificate, variant)
    except _WRONG as error:
        faults = [_said(error)]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return _failure(file.model, name, "parameters", f"{faults[0]}{more}")
    return Row(file.model, name, "parameters", 0.0, TOLERANCE, True)


def _shape_faults(described: Mapping[str, Any], spec: ModelSpec, certificate: Certificate, variant: str) -> list[str]:
    if certificate.shapes is None:
        return ["the certificate does not tell the parameters' shapes"]
    prefix = described.get("prefix") or ""
    names = described["parameters"]
    bare = described.get("names_have_prefix") is False or not all(each.startswith(prefix) for each in names)
    published = {(prefix if bare else "") + each: tuple(shape) for each, shape in names.items()}
    ours = spec.variants.get(variant)
    config = described.get("config") or (ours.config if ours else {})
    ignored = described.get("ignore") or ()
    told = certificate.shapes(config)
    lead = "" if any(each.startswith(prefix) for each in told) else prefix
    shapes = {
        each: tuple(shape)
        for each, shape in ((lead + name, shape) for name, shape in told.items())
        if each in published or not any(fnmatch.fnmatchcase(each, pattern) for pattern in ignored)
    }
    return differences(published, shapes) or _catalogue_faults(published, spec, variant)


def _catalogue_faults(published: Mapping[str, tuple[int, ...]], spec: ModelSpec, variant: str) -> list[str]:
    """What keeps a file of these parameters from loading into the net that our catalogue builds."""
    ours = spec.variants.get(variant)
    if ours is None or ours.checkpoint is None:
        return []
    torch = require("torch", why="building a net")
    options = {name: option.default for name, option in spec.options.items()}
    used = next(iter(spec.modalities.values()), tuple(spec.inputs))
    bands = {name: spec.inputs[name].bands for name in used}
    sensors = {name: spec.inputs[name].sources[0].sensor for name in used}
    with torch.device("meta"):
        net = spec.encoder(Build(spec.adapt(ours, options), options, bands, sensors)).net
    state: Mapping[str, Any] = {name: torch.empty(shape, device="meta") for name, shape in published.items()}
    if ours.checkpoint.convert is not None:
        state = ours.checkpoint.convert(state)
    got = {name: tuple(np.shape(value)) for name, value in state.items()}
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    return differences(got, wanted, ours.checkpoint.may_miss)
