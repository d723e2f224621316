"""From what the user says about a model to one checked description of what will run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rs_embed.core.errors import ModelError, ProviderError, SpecError
from rs_embed.core.model_spec import Build, Condition, Frames, InputSpec, ModelSpec, Source, Variant
from rs_embed.core.options import check_options
from rs_embed.core.registry import get_spec
from rs_embed.core.sensors import SENSORS, Sensor, canonical_bands, find_sensor
from rs_embed.core.specs import FetchSpec, SensorSpec
from rs_embed.providers.base import Provider

__all__ = ["InputSetup", "Setup", "modalities_of", "resolve"]


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

    @property
    def fill(self) -> tuple[float, ...]:
        """What invalid pixels become, one number a band, in the sensor's units."""
        fill, count = self.spec.fill if self.source.fill is None else self.source.fill, len(self.bands)
        if fill == "zero":
            return (0.0,) * count
        return fill if len(fill) == count else (float(np.mean(fill)),) * count

    @property
    def wavelengths(self) -> tuple[float, ...]:
        """Centres of the bands as the net is told them, µm: the user's own, else the authors', else the sensor's."""
        given = tuple(self.sensor.band(name).wavelength for name in self.bands)
        known = SENSORS.get(self.sensor.id)
        if known is None or not self.source.wavelengths:
            return given
        listed = [known.band(name).wavelength for name in self.bands]
        return tuple(
            told if own == ours or math.isnan(own) else own
            for own, ours, told in zip(given, listed, self.source.wavelengths, strict=True)
        )


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
    scale_m: float | None = None
    """Of a product: the resolution that is asked for, metres; ``None``: its own grid."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What the net is told besides pixels."""
        return self.spec.conditions if self.variant.conditions is None else self.variant.conditions

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


def modalities_of(spec: ModelSpec, variant: str | None) -> Mapping[str, tuple[str, ...]]:
    """Return ``{modality: inputs}`` that a variant takes (all of the model's for none in particular), by preference."""
    taken = () if variant is None else spec.variants[variant].modalities
    return {name: spec.modalities[name] for name in taken or spec.modalities}


def _modality(spec: ModelSpec, modality: str | None, variant: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the modality and the inputs that it uses; ``variant`` is the user's own choice of one."""
    if not spec.modalities:
        if modality is not None:
            raise ModelError(f"{spec.name} has one kind of input; leave modality={modality!r} out")
        return None, tuple(spec.inputs)
    taken = modalities_of(spec, variant)
    if modality is None:
        name = next(iter(modalities_of(spec, variant or spec.default_variant)))
        return name, spec.modalities[name]
    if not isinstance(modality, str):
        raise ModelError(f"modality={modality!r} must be a name; accepted: {', '.join(map(repr, spec.modalities))}")
    wanted = modality.strip().lower().replace("-", "").replace("_", "").replace("sentinel", "s")
    found = next((name for name in spec.modalities if name.replace("-", "").replace("_", "") == wanted), None)
    if found is None:
        raise ModelError(f"{spec.name} has no modality {modality!r}; accepted: {', '.join(map(repr, spec.modalities))}")
    if found not in taken:
        others = [name for name, each in spec.variants.items() if found in (each.modalities or spec.modalities)]
        raise ModelError(
            f"{spec.name}: the variant {variant!r} takes {', '.join(map(repr, taken))}, not modality={modality!r}, "
            f"which {', '.join(map(repr, others)) or 'no variant'} takes"
        )
    return found, spec.modalities[found]


def _variant(spec: ModelSpec, modality: str | None) -> str:
    """Return the first variant that takes a modality."""
    return next(
        (
            name
            for name, each in spec.variants.items()
            if modality is None or modality in (each.modalities or (modality,))
        ),
        spec.default_variant,
    )


def _own_sensor(spec: ModelSpec, name: str, item: InputSpec, provider: Provider) -> tuple[Source, Sensor]:
    """Return the first source of an input that the provider has."""
    own = {} if spec.product is None else {spec.product.sensor.id: spec.product.sensor}
    for source in item.sources:
        if provider.offers(source.sensor):
            return source, own.get(source.sensor) or SENSORS[source.sensor]
    wanted = ", ".join(source.sensor for source in item.sources)
    raise ProviderError(
        f"{spec.name} takes {wanted} as its input {name!r}, and the backend {provider.name!r} has none of them; "
        f"choose another backend, or another modality or sensor{_why_not(provider, item.sources[0].sensor)}"
    )


def _why_not(provider: Provider, sensor: str) -> str:
    """Why a provider has no imagery of a sensor, where it can tell."""
    tell = getattr(provider, "refusal", None)
    said = "" if tell is None else tell(sensor)
    return f" ({said})" if said else ""


def _picked(source: Source, names: tuple[str, ...], bands: tuple[str, ...]) -> Source:
    """Return a source for some of its bands, in another order."""
    if names == bands:
        return source
    indices = [names.index(band) for band in bands]
    steps = tuple(step.pick(indices) if hasattr(step, "pick") else step for step in source.steps)
    fill = tuple(source.fill[i] for i in indices) if isinstance(source.fill, tuple) else source.fill
    wavelengths = tuple(source.wavelengths[i] for i in indices) if source.wavelengths else ()
    return replace(source, steps=steps, bands=bands, fill=fill, wavelengths=wavelengths)


def _user_sensor(
    spec: ModelSpec, item: InputSpec, sensor: Sensor, wanted: SensorSpec
) -> tuple[Source, tuple[str, ...]]:
    """Return source and bands of the user's sensor, which must be one that the input can take."""
    bands = canonical_bands(sensor, wanted.bands)
    listed = next((s for s in item.sources if s.sensor == sensor.id), None)
    if item.any_bands:
        return _any_bands(spec, item, sensor, bands), bands
    if listed is None:
        if item.foreign is not None:
            return item.foreign(sensor, bands), bands
        accepted = ", ".join(s.sensor for s in item.sources)
        raise ModelError(f"{spec.name} cannot take {wanted.collection!r}; it takes {accepted}")
    names = listed.bands or item.bands
    if listed.fill is None:
        listed = replace(listed, fill=item.fill)
    unknown = [b for b in bands if b not in names]
    if unknown and item.foreign is not None:
        return item.foreign(sensor, bands), bands
    if unknown:
        raise ModelError(f"{spec.name} has no input for band {unknown[0]!r}; its bands are {', '.join(names)}")
    if item.subset:
        return _picked(listed, names, bands), bands
    if item.missing_band == "error" and len(bands) < len(names):
        lacking = ", ".join(b for b in names if b not in bands)
        raise ModelError(f"{spec.name} needs the bands {', '.join(names)}; the sensor leaves out {lacking}")
    return listed, tuple(b for b in names if b in bands)


def _any_bands(spec: ModelSpec, item: InputSpec, sensor: Sensor, bands: tuple[str, ...]) -> Source:
    """Return the source of an input that takes as many bands of any sensor."""
    listed = next((s for s in item.sources if s.sensor == sensor.id), None)
    if spec.locality != "pixel" and len(bands) != len(item.bands):
        raise ModelError(f"{spec.name} takes {len(item.bands)} bands like {', '.join(item.bands)}, got {len(bands)}")
    first = item.sources[0]
    if listed is None and first.steps and SENSORS[first.sensor].units != sensor.units:
        raise ModelError(
            f"{spec.name} is normalised for {SENSORS[first.sensor].units}, and {sensor.id} is in {sensor.units}"
        )
    return listed or replace(first, sensor=sensor.id, trained_on=False)


@dataclass(frozen=True)
class _Call:
    """What the user says of the inputs."""

    provider: Provider
    sensor: SensorSpec | None
    fetch: FetchSpec | None
    own: Mapping[str, Sensor]
    """Sensors of the user's own data by their ids."""

    def known(self, collection: str) -> Sensor:
        """Return the sensor of a collection; the user's own word counts first."""
        wanted = collection.strip().lower()
        if wanted in self.own:
            return self.own[wanted]
        found = find_sensor(collection)
        return self.own.get(found.id, found)


def _input(setup: tuple[ModelSpec, Variant], name: str, call: _Call) -> InputSetup:
    spec, variant = setup
    item = spec.inputs[name]
    absent: tuple[str, ...] = ()
    if call.sensor is None:
        source, sensor = _own_sensor(spec, name, item, call.provider)
        sensor = call.own.get(sensor.id, sensor)
        bands = source.bands or item.bands
        wanted = SensorSpec(sensor.collections[0], bands, scale_m=item.gsd, cloudy_pct=item.cloudy_pct, modality=name)
        wanted = call.fetch.over(wanted) if call.fetch is not None else wanted
    else:
        sensor = call.known(call.sensor.collection)
        source, bands = _user_sensor(spec, item, sensor, call.sensor)
        if not item.any_bands and not item.subset and item.foreign is None:
            names = source.bands or item.bands
            absent = tuple(b for b in names if b not in bands)
            bands = names
        wanted = replace(call.sensor, bands=bands)
        if not call.provider.offers(sensor.id):
            raise ProviderError(
                f"the backend {call.provider.name!r} has no imagery of {call.sensor.collection!r} ({sensor.id})"
                f"{_why_not(call.provider, sensor.id)}; choose another backend or sensor"
            )
    return InputSetup(name, item, source, sensor, bands, absent, wanted, variant.frames or item.frames)


def resolve(
    model: str | ModelSpec,
    provider: Provider,
    *,
    sensor: SensorSpec | None = None,
    fetch: FetchSpec | None = None,
    modality: str | None = None,
    options: Mapping[str, Any] | None = None,
    own: Mapping[str, Sensor] | None = None,
) -> Setup:
    """Check everything that the user says about a model, before anything is loaded.

    Parameters
    ----------
    own
        Sensors of the user's own data by their ids: with their own wavelengths, or unknown to us.

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
    scale = None
    if spec.product is not None:
        scale, own = _scale_of(spec, sensor, fetch), {spec.product.sensor.id: spec.product.sensor}
        sensor = fetch = None
    call = _Call(provider, sensor, fetch, own or {})
    variant_name = values.pop("variant", spec.default_variant)
    said = variant_name if (options or {}).get("variant") is not None else None
    if modality is None and sensor is not None and spec.modalities:
        modality = sensor.modality or _modality_of(spec, call.known(sensor.collection), said)
    chosen, names = _modality(spec, modality, said)
    if said is None:
        variant_name = _variant(spec, chosen)
    variant = spec.adapt(spec.variants[variant_name], values)
    target = _replaced(spec, names, call)
    others = replace(call, sensor=None)
    inputs = {name: _input((spec, variant), name, call if name == target else others) for name in names}
    if spec.product is not None:
        inputs = {name: _of_version(item, variant) for name, item in inputs.items()}
    return Setup(spec, variant_name, variant, values, inputs, chosen, checkpoint and Path(checkpoint), scale)


def _of_version(item: InputSetup, variant: Variant) -> InputSetup:
    """Return a product's input with the collection of its version."""
    named = variant.config.get("collection")
    return item if named is None else replace(item, wanted=replace(item.wanted, collection=named))


def _scale_of(spec: ModelSpec, sensor: SensorSpec | None, fetch: FetchSpec | None) -> float | None:
    """Return the resolution that is asked of a product, metres; all else of a sensor cannot be meant.

    Raises
    ------
    ModelError
        If ``sensor`` or ``fetch`` sets anything besides ``scale_m``.
    """
    product = spec.product
    assert product is not None
    if product.chips and (fetch is not None or sensor is not None):
        raise ModelError(f"{spec.name} holds chips as they were embedded: leave sensor and fetch out")
    said: list[str] = []
    scale: float | None = None
    if fetch is not None:
        said = [name for name, value in vars(fetch).items() if value is not None and name != "scale_m"]
        scale = fetch.scale_m
    if sensor is not None:
        names = {product.sensor.id, *(each.lower() for each in product.sensor.collections)}
        plain = SensorSpec(sensor.collection, sensor.bands, scale_m=sensor.scale_m)
        said = [name for name, value in vars(sensor).items() if value != getattr(plain, name)]
        if sensor.collection.strip().lower() not in names:
            said.insert(0, "collection")
        if tuple(sensor.bands) != product.sensor.default_bands:
            said.insert(0, "bands")
        scale = float(sensor.scale_m)
    if said:
        raise ModelError(
            f"{spec.name} is precomputed: sensor and fetch may set scale_m only, and {said[0]} is set; leave it out"
        )
    return scale


def _modality_of(spec: ModelSpec, sensor: Sensor, variant: str | None) -> str | None:
    """Return the first modality of one input that takes the sensor."""
    single = {name: inputs[0] for name, inputs in modalities_of(spec, variant).items() if len(inputs) == 1}
    for name, only in single.items():
        if sensor.id in {s.sensor for s in spec.inputs[only].sources}:
            return name
    return next((name for name, only in single.items() if spec.inputs[only].foreign is not None), None)


def _replaced(spec: ModelSpec, names: tuple[str, ...], call: _Call) -> str | None:
    """Return the input that the user's sensor takes the place of."""
    if call.sensor is None or len(names) == 1:
        return names[0] if call.sensor is not None else None
    known = call.known(call.sensor.collection).id
    fits = [n for n in names if known in {s.sensor for s in spec.inputs[n].sources}]
    if len(fits) != 1:
        raise ModelError(f"{spec.name} has several inputs; say with SensorSpec(modality=...) which one this replaces")
    return fits[0]
