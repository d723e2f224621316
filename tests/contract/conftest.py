"""Every model of the catalogue, with a checkpoint made from its own net where it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from small_models import shallow, smallest

from rs_embed import reset_runtime
from rs_embed.core import registry
from rs_embed.core.model_spec import Build, ModelSpec
from rs_embed.core.registry import get_spec, list_models
from rs_embed.inference.random_weights import random_encoder

PREFIXES = ("", "visual.", "encoder.", "module.", "model.", "backbone.", "image_encoder.", "vision_model.")


@pytest.fixture(scope="module", autouse=True)
def shallow_models() -> Iterator[dict[str, ModelSpec]]:
    """Put `shallow` models in the catalogue for a module's tests; gives the full-sized ones of those that were cut."""
    real = {name: get_spec(name) for name in list_models()}
    with pytest.MonkeyPatch.context() as patch:
        cut = {name: small for name, spec in real.items() if (small := shallow(spec)) is not spec}
        for name, spec in cut.items():
            patch.setitem(registry._registered, name, spec)
        yield {name: real[name] for name in cut}


def published(
    state: Mapping[str, Any], convert: Callable[[Mapping[str, Any]], dict[str, Any]] | None
) -> dict[str, Any]:
    """The state under names that the model's converter turns back into its net's."""
    for prefix in PREFIXES:
        named = {prefix + name: value for name, value in state.items()}
        try:
            back = dict(named) if convert is None else convert(named)
        except (KeyError, ValueError):
            continue
        if {n for n in back if "num_batches" not in n} == {n for n in state if "num_batches" not in n}:
            return named
    raise AssertionError(f"no prefix of {PREFIXES} fits the converter; add the model's here")


def make_checkpoint(spec: ModelSpec, variant: str, folder: Path) -> Path:
    """Save seeded random weights of a variant's net under their published names."""
    import torch

    chosen = spec.adapt(spec.variants[variant], {})
    bands = {name: item.bands for name, item in spec.inputs.items()}
    sensors = {name: item.sources[0].sensor for name, item in spec.inputs.items()}
    build = Build(chosen, {n: o.default for n, o in spec.options.items()}, bands, sensors)
    net = random_encoder(spec, build).net
    assert chosen.checkpoint is not None
    file = folder / f"{spec.name}-{variant}.pt"
    torch.save(published(net.state_dict(), chosen.checkpoint.convert), file)
    return file


@pytest.fixture(scope="session")
def arguments_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The options that make a model run without a network: the smallest variant, a checkpoint of random weights."""
    known: dict[str, dict[str, Any]] = {}
    folder = tmp_path_factory.mktemp("checkpoints")

    def options(model: str) -> dict[str, Any]:
        if model not in known:
            spec, found = get_spec(model), {}
            name = smallest(spec)
            if len(spec.variants) > 1:
                found["variant"] = name
            if spec.variants[name].checkpoint is not None:
                pytest.importorskip("torch", reason="the extra torch is not installed")
                found["checkpoint"] = str(make_checkpoint(spec, name, folder))
            known[model] = found
        return known[model]

    return options


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    """Loaded models do not outlive a module's tests."""
    yield
    reset_runtime()


@pytest.fixture
def at_full_size(
    model: str, shallow_models: Mapping[str, ModelSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """The options of a model that other tests run with fewer blocks; the catalogue has all of them meanwhile."""
    spec = shallow_models[model]
    name = smallest(spec)
    monkeypatch.setitem(registry._registered, model, spec)
    variant = {"variant": name} if len(spec.variants) > 1 else {}
    yield {**variant, "checkpoint": str(make_checkpoint(spec, name, tmp_path))}
    reset_runtime()
