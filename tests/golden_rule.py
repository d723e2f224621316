"""Read the golden files: what the authors' own code computed, on weights and inputs that a rule rebuilds."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(os.environ.get("RS_EMBED_GOLDEN", Path(__file__).parent / "golden"))
TOLERANCE = 2e-5
TABLE_TOLERANCE = 1e-6


def _generator(name: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def weight(name: str, shape: list[int], seed: int) -> np.ndarray:
    noise = _generator(name, seed).standard_normal(tuple(shape))
    if len(shape) >= 2:
        noise = noise / np.sqrt(np.prod(shape[1:]))
    elif name.endswith(("weight", "gamma", "scale")):
        noise = 1.0 + 0.1 * noise
    else:
        noise = 0.1 * noise
    return np.asarray(noise, dtype=np.float32)


def array(rule: dict[str, Any], seed: int) -> np.ndarray:
    generator, shape, kind = _generator(rule["name"], seed), tuple(rule.get("shape", ())), rule["kind"]
    if kind == "normal":
        value = rule["mean"] + rule["std"] * generator.standard_normal(shape)
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
class Case:
    """One case of a golden file."""

    name: str
    seed: int
    spec: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.spec["config"])

    def fixed(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(self.arrays[f"fixed/{name}"]) for name in self.spec.get("fixed", [])}

    def state(self) -> dict[str, Tensor]:
        shapes = self.spec["state_dict"]
        fixed = self.fixed()
        ruled = {k: torch.from_numpy(weight(k, s, self.seed)) for k, s in shapes.items() if k not in fixed}
        return ruled | fixed

    def inputs(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array(rule, self.seed)) for name, rule in self.spec["inputs"].items()}

    def expected(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(self.arrays[f"out/{name}"]) for name in self.spec["outputs"]}


@cache
def spec(model: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{model}.json").read_text(encoding="utf-8")))


@cache
def cases(model: str) -> dict[str, Case]:
    described = spec(model)
    with np.load(FOLDER / f"{model}.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    return {
        name: Case(name, described["seed"], case, _under(arrays, f"{name}/"))
        for name, case in described["cases"].items()
    }


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def error(got: Tensor, wanted: Tensor) -> float:
    """Largest difference over the largest wanted value."""
    assert got.shape == wanted.shape, f"{tuple(got.shape)} instead of {tuple(wanted.shape)}"
    got, wanted = got.detach().double(), wanted.detach().double()
    difference = float((got - wanted).abs().max())
    return difference / float(wanted.abs().max()) if difference else 0.0


def assert_equal(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = TOLERANCE) -> None:
    assert set(got) == set(wanted)
    errors = {name: error(got[name], wanted[name]) for name in wanted}
    assert all(value <= tolerance for value in errors.values()), errors


def shapes(net: nn.Module) -> dict[str, list[int]]:
    state = net.state_dict()
    return {name: list(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
