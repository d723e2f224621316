"""Golden files: outputs of the authors' own code, on weights and inputs that a rule rebuilds from names.

``tests/golden/README.md`` describes their format.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.model_spec import GoldenCase

__all__ = ["GoldenFile", "element_error", "golden_array", "golden_weight", "relative_error"]

Spec = Mapping[str, Any]


def _generator(name: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def golden_weight(name: str, shape: Sequence[int], *, seed: int) -> NDArray[np.float32]:
    """Return the float32 value that the rule gives the parameter `name`."""
    value = _generator(name, seed).standard_normal(tuple(shape))
    if len(shape) >= 2:
        value = value / np.sqrt(math.prod(shape[1:]))
    elif name.endswith(("weight", "gamma", "scale")):
        value = 1.0 + 0.1 * value
    else:
        value = 0.1 * value
    return np.asarray(value, np.float32)


def golden_array(rule: Spec, *, seed: int) -> NDArray[Any]:
    """Return the input that a rule describes: normal, uniform, integers, or the values themselves."""
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


def relative_error(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return max |difference| / max |wanted| over finite values; infinite where shapes or NaN differ."""
    difference, size = _differences(got, wanted)
    if not difference.any():
        return 0.0
    return float(difference.max() / size.max()) if size.any() else math.inf


def element_error(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return max |difference| / (1 + |wanted|), or infinity where shapes or NaN differ.

    At most 1e-5 where each element has |difference| <= 1e-5 + 1e-5 |wanted|.
    """
    difference, size = _differences(got, wanted)
    return float((difference / (1 + size)).max()) if difference.size else 0.0


def _differences(got: NDArray[Any], wanted: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Absolute difference and size of the finite elements; one infinite difference where nothing can be compared."""
    a, b = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    finite = np.isfinite(b)
    if a.shape != b.shape or not np.isfinite(a[finite]).all() or not np.array_equal(a[~finite], b[~finite], True):
        return np.array([math.inf]), np.ones(1)
    return np.abs(a[finite] - b[finite]), np.abs(b[finite])


@dataclass(frozen=True)
class GoldenFile:
    """A golden file: its description, and its arrays read at first use."""

    path: Path
    described: Spec

    @classmethod
    def open(cls, path: Path) -> GoldenFile:
        """Read the description.

        Raises
        ------
        ValueError
            If it is no JSON object that names its model.
        """
        described = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(described, dict) or not isinstance(described.get("model"), str):
            raise ValueError(f"{path.name} is not a golden file: it names no model")
        return cls(path, described)

    @property
    def model(self) -> str:
        """Name or alias of the model."""
        return str(self.described["model"])

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What lies in the ``.npz`` beside the description."""
        with np.load(self.path.with_suffix(".npz")) as stored:
            return {name: stored[name] for name in stored.files}

    def case(self, name: str) -> GoldenCase:
        """Rebuild the weights and inputs of a case.

        Raises
        ------
        FileNotFoundError
            If it needs a file of real weights that is not there.
        """
        case, seed = self.described["cases"][name], int(self.described["seed"])
        return GoldenCase(
            config=case.get("config", {}),
            inputs={argument: golden_array(rule, seed=seed) for argument, rule in case["inputs"].items()},
            outputs={output: self.arrays[f"{name}/out/{output}"].shape for output in case["outputs"]},
            state=self._real_weights(case["weights"]) if "weights" in case else self._state(name, case, seed),
        )

    def _state(self, name: str, case: Spec, seed: int) -> dict[str, NDArray[Any]] | None:
        fixed = case.get("fixed") or ()
        shapes = case.get("state_dict") or {}
        if not shapes and not fixed:
            return None
        state: dict[str, NDArray[Any]] = {
            key: golden_weight(key, shape, seed=seed) for key, shape in shapes.items() if key not in fixed
        }
        state |= {key: self.arrays[f"{name}/fixed/{key}"] for key in fixed}
        dtype = np.dtype(case.get("dtype", "float32"))
        return {key: value.astype(dtype) if value.dtype.kind == "f" else value for key, value in state.items()}

    def _real_weights(self, file: str) -> str:
        """The path of a published file, relative to the folder of reference data."""
        named = os.environ.get("RS_EMBED_TEST_DATA")
        near = [*self.path.resolve().parents, *Path.cwd().parents, Path.cwd(), *Path(__file__).resolve().parents]
        roots = [self.path.resolve().parents[1], *([Path(named).resolve().parent] if named else [])]
        roots += [folder / "shared" for folder in near]  # beside the golden files, here, or beside the checkout
        found = next((root / file for root in roots if (root / file).is_file()), None)
        if found is None:
            raise FileNotFoundError(
                f"real weights {file!r} are not beside {self.path.parent.name} (RS_EMBED_TEST_DATA names shared/data)"
            )
        return str(found)

    def normalization_inputs(self, output: str) -> dict[str, NDArray[Any]]:
        """Return the raw inputs of the preprocessing, with the edits that are meant for `output`."""
        section, seed = self.described["normalization"], int(self.described["seed"])
        inputs = {name: golden_array(rule, seed=seed) for name, rule in section["input"].items()}
        for edit in section.get("edits") or ():
            if output in edit.get("outputs", [output]):
                index = tuple(slice(None) if i is None else i for i in edit["index"])
                inputs[edit["input"]][index] = np.nan if edit["value"] == "nan" else edit["value"]
        return inputs
