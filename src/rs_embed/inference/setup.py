"""From what the user says about a model to one checked description of what will run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rs_embed.core.errors import ModelError, ProviderError, SpecError
from rs_embed.core.model_spec import Build, Frames, InputSpec, ModelSpec, Source, Variant
from rs_embed.core.options import check_options
from rs_embed.core.registry import get_spec
from rs_embed.core.sensors import SENSORS, Sensor, canonical_bands, find_sensor
from rs_embed.core.specs import FetchSpec, SensorSpec
from rs_embed.providers.base import Provider

__all__ = ["InputSetup", "Setup", "resolve"]


@dataclass(frozen=True)
class InputSetup:
    """One input as it will be asked for and prepared."""

    name: str
    spec: InputSpec
    source: Source
    sensor: Sensor
    bands: tuple[str, ...]
    absent: tuple[str, ...]
    """Bands of the model that the user's sensor leaves out: the net is told that they are missing."""
    wanted: SensorSpec
    """The same in public terms: collection, bands, gsd, filters."""
    frames: Frames

    @property
    def gsd(self) -> float:
        """Metres of a pixel that is asked for."""
        return float(self.wanted.scale_m)


@dataclass(frozen=True)
class Setup:
    """A model with its variant, options and inputs, all checked."""

    spec: ModelSpec
    variant_name: str
    variant: Variant
    options: Mapping[str, Any]
    inputs: Mapping[str, InputSetup]
    modality: str | None
    checkpoint: Path | None
    """The user's own weights file."""

    def build(self) -> Build:
        """Return what the model's builder gets."""
        return Build(
            variant=self.variant,
            options=self.options,
            bands={name: i.bands for name, i in self.inputs.items()},
            sensors={name: i.sensor.id for name, i in self.inputs.items()},
        )

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """The runtime key as it was when it was first asked for."""
        return self.runtime_key()

    def runtime_key(self) -> tuple[Any, ...]:
        """Return what two setups must share to share an encoder."""
        file = self.checkpoint
        stamp = None if file is None else (str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size)
        inputs = tuple((name, i.sensor.id, i.bands) for name, i in self.inputs.items())
        return self.spec.name, id(self.spec), self.variant_name, tuple(sorted(self.options.items())), inputs, stamp


def _modality(spec: ModelSpec, modality: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the modality and the inputs that it uses."""
    if not spec.modalities:
        if modality is not None:
            raise ModelError(f"{spec.name} has one kind of input; leave modality={modality!r} out")
        return None, tuple(spec.inputs)
    if modality is None:
        name = next(iter(spec.modalities))
        return name, spec.modalities[name]
    if not isinstance(modality, str):
        raise ModelError(f"modality={modality!r} must be a name; accepted: {', '.join(map(repr, spec.modalities))}")
    wanted = modality.strip().lower().replace("-", "").replace("_", "").replace("sentinel", "s")
    for name, inputs in spec.modalities.items():
        if name.replace("-", "").replace("_", "") == wanted:
            return name, inputs
    raise ModelError(f"{spec.name} has no modality {modality!r}; accepted: {', '.join(map(repr, spec.modalities))}")


def _own_sensor(spec: ModelSpec, name: str, item: InputSpec, provider: Provider) -> tuple[Source, Sensor]:
    """Return the first source of an input that the provider has."""
    for source in item.sources:
        if provider.offers(source.sensor):
            return source, SENSORS[source.sensor]
    wanted = ", ".join(source.sensor for source in item.sources)
    raise ProviderError(
        f"{spec.name} takes {wanted} as its input {name!r}, and the backend {provider.name!r} has none of them; "
        "choose another backend, or another modality or sensor"
    )


def _user_sensor(spec: ModelSpec, item: InputSpec, wanted: SensorSpec) -> tuple[Source, Sensor, tuple[str, ...]]:
    """Return source, sensor and bands of the user's sensor, which must be one that the input can take."""
    sensor = find_sensor(wanted.collection)
    bands = canonical_bands(sensor, wanted.bands)
    listed = next((s for s in item.sources if s.sensor == sensor.id), None)
    if not item.any_bands:
        if listed is None:
            accepted = ", ".join(s.sensor for s in item.sources)
            raise ModelError(f"{spec.name} cannot take {wanted.collection!r}; it takes {accepted}")
        foreign = [b for b in bands if b not in item.bands]
        if foreign:
            raise ModelError(f"{spec.name} has no input for band {foreign[0]!r}; its bands are {', '.join(item.bands)}")
        if item.missing_band == "error" and len(bands) < len(item.bands):
            lacking = ", ".join(b for b in item.bands if b not in bands)
            raise ModelError(f"{spec.name} needs the bands {', '.join(item.bands)}; the sensor leaves out {lacking}")
        return listed, sensor, tuple(b for b in item.bands if b in bands)
    if spec.locality != "pixel" and len(bands) != len(item.bands):
        raise ModelError(f"{spec.name} takes {len(item.bands)} bands like {', '.join(item.bands)}, got {len(bands)}")
    first = item.sources[0]
    if listed is None and first.steps and SENSORS[first.sensor].units != sensor.units:
        raise ModelError(
            f"{spec.name} is normalised for {SENSORS[first.sensor].units}, and {sensor.id} is in {sensor.units}"
        )
    return listed or replace(first, sensor=sensor.id, trained_on=False), sensor, bands


def _input(
    setup: tuple[ModelSpec, Variant], name: str, sensor: SensorSpec | None, fetch: FetchSpec | None, provider: Provider
) -> InputSetup:
    spec, variant = setup
    item = spec.inputs[name]
    absent: tuple[str, ...] = ()
    if sensor is None:
        source, known = _own_sensor(spec, name, item, provider)
        bands = item.bands
        wanted = SensorSpec(known.collections[0], bands, scale_m=item.gsd, cloudy_pct=item.cloudy_pct, modality=name)
        wanted = fetch.over(wanted) if fetch is not None else wanted
    else:
        source, known, bands = _user_sensor(spec, item, sensor)
        if not item.any_bands:
            absent = tuple(b for b in item.bands if b not in bands)
            bands = item.bands
        wanted = replace(sensor, bands=bands)
        if not provider.offers(known.id):
            raise ProviderError(f"the backend {provider.name!r} has no imagery of {sensor.collection!r} ({known.id})")
    return InputSetup(name, item, source, known, bands, absent, wanted, variant.frames or item.frames)


def resolve(
    model: str | ModelSpec,
    provider: Provider,
    *,
    sensor: SensorSpec | None = None,
    fetch: FetchSpec | None = None,
    modality: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Setup:
    """Check everything that the user says about a model, before anything is loaded.

    Raises
    ------
    ModelError
        For an unknown model, option, modality or band, or a sensor that the model cannot take.
    ProviderError
        If the provider has no imagery for an input.
    SpecError
        If ``sensor`` and ``fetch`` are given together, or are no specs.
    """
    spec = model if isinstance(model, ModelSpec) else get_spec(model)
    if sensor is not None and fetch is not None:
        raise ModelError("Use either sensor=... or fetch=..., not both: a sensor says all that fetch could change")
    if sensor is not None and not isinstance(sensor, SensorSpec):
        raise SpecError(f"sensor={sensor!r} must be a SensorSpec")
    if fetch is not None and not isinstance(fetch, FetchSpec):
        raise SpecError(f"fetch={fetch!r} must be a FetchSpec")
    values = check_options(spec, options or {})
    checkpoint = values.pop("checkpoint", None)
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise ModelError(f"{spec.name}: checkpoint={str(checkpoint)!r} is not a file")
    variant_name = values.pop("variant", spec.default_variant)
    variant = spec.adapt(spec.variants[variant_name], values)
    if modality is None and sensor is not None:
        modality = sensor.modality if spec.modalities else None
        modality = modality or _modality_of(spec, sensor)
    chosen, names = _modality(spec, modality)
    target = _replaced(spec, names, sensor)
    inputs = {
        name: _input((spec, variant), name, sensor if name == target else None, fetch, provider) for name in names
    }
    return Setup(spec, variant_name, variant, values, inputs, chosen, checkpoint and Path(checkpoint))


def _modality_of(spec: ModelSpec, sensor: SensorSpec) -> str | None:
    """Return the first modality of one input that takes the sensor."""
    known = find_sensor(sensor.collection).id
    for name, inputs in spec.modalities.items():
        if len(inputs) == 1 and known in {s.sensor for s in spec.inputs[inputs[0]].sources}:
            return name
    return None


def _replaced(spec: ModelSpec, names: tuple[str, ...], sensor: SensorSpec | None) -> str | None:
    """Return the input that the user's sensor takes the place of."""
    if sensor is None or len(names) == 1:
        return names[0] if sensor is not None else None
    known = find_sensor(sensor.collection).id
    fits = [n for n in names if known in {s.sensor for s in spec.inputs[n].sources}]
    if len(fits) != 1:
        raise ModelError(f"{spec.name} has several inputs; say with SensorSpec(modality=...) which one this replaces")
    return fits[0]
