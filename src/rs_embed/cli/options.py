"""Arguments and options that several commands share, with their help."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rs_embed.cli.app import usage

if TYPE_CHECKING:
    from rs_embed.core.model_spec import ModelSpec
    from rs_embed.core.specs import FetchSpec, SensorSpec

__all__ = [
    "Pixels",
    "bands_of",
    "fetch_of",
    "given",
    "model_options",
    "one_place",
    "sensor_of",
    "source_of",
    "span_of",
    "words",
]


def _models(incomplete: str) -> list[str]:
    """Complete a model's name; other names only where the beginning is not one of an id."""
    from rs_embed.core.registry import list_models

    start = incomplete.lower()
    ids = [name for name in list_models() if name.startswith(start)]
    return ids or [name for name in list_models(include_aliases=True) if name.startswith(start)]


def _spec(context: typer.Context) -> Any:
    """Return the model that a half-typed command names, or None."""
    from rs_embed.core.errors import ModelError
    from rs_embed.core.registry import get_spec

    # of a command that is not typed to its end, click leaves the arguments where they are
    named = [context.params.get("model"), *context.args]
    try:
        return next((get_spec(name) for name in named if name), None)
    except ModelError:
        return None


def _variants(context: typer.Context, incomplete: str) -> list[str]:
    spec = _spec(context)
    return [name for name in spec.variants if name.startswith(incomplete)] if spec else []


def _modalities(context: typer.Context, incomplete: str) -> list[str]:
    spec = _spec(context)
    return [name for name in spec.modalities if name.startswith(incomplete)] if spec else []


def _pairs(context: typer.Context, incomplete: str) -> list[str]:
    """Complete ``NAME=`` and, where an option has choices, ``NAME=VALUE``."""
    from rs_embed.core.options import accepted_options

    spec = _spec(context)
    found = []
    for name, option in (accepted_options(spec) if spec else {}).items():
        choices = option.choices or ("",)
        found += [f"{name}={choice}" for choice in choices]
    return [pair for pair in found if pair.startswith(incomplete)]


def words(*accepted: str) -> Any:
    """Return what completes one of a few words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in accepted if word.startswith(incomplete)]

    return complete


_option = typer.Option

BUFFER_M = 640.0
"""Half the side of the square around a point, where none is given."""

ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model id or alias; 'rs-embed models' lists them.", autocompletion=_models),
]
ModelNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL", help="Model ids or aliases.", autocompletion=_models),
]
Json = Annotated[bool, _option("--json", help="Print JSON.")]

Point = Annotated[
    tuple[float, float] | None, _option("--point", metavar="LON LAT", help="Centre of a square, degrees.")
]
Box = Annotated[
    tuple[float, float, float, float] | None,
    _option("--bbox", metavar="MINLON MINLAT MAXLON MAXLAT", help="A box, degrees; MINLON > MAXLON crosses 180°."),
]
Buffer = Annotated[
    float | None, _option("--buffer", metavar="M", help="Half the side of the square around a point, metres [640].")
]
Regions = Annotated[
    str | None,
    _option(
        "--regions", metavar="FILE", help="Many regions: CSV, GeoJSON, NDJSON, GeoPackage, GeoParquet; - is stdin."
    ),
]
IdColumn = Annotated[str | None, _option("--id", metavar="COLUMN", help="Column of --regions with the ids.")]
LonColumn = Annotated[str | None, _option("--lon", metavar="COLUMN", help="Column with longitudes, degrees.")]
LatColumn = Annotated[str | None, _option("--lat", metavar="COLUMN", help="Column with latitudes, degrees.")]
Layer = Annotated[str | None, _option("--layer", metavar="NAME", help="Layer of a GeoPackage.")]

Time = Annotated[
    str | None,
    _option("--time", metavar="T", help="2022, 2022-06, 2022-06-15 or 2022-06-01/2022-09-01 (end excluded)."),
]
TimeColumn = Annotated[
    str | None, _option("--time-col", metavar="COLUMN", help="Column of --regions with the times, written as --time.")
]
Years = Annotated[
    str | None, _option("--years", metavar="A-B", help="Each region once a year, such as 2018-2024 (both included).")
]

_BACKEND = _option(
    "--backend",
    metavar="B",
    help="auto, gee, earth-search, planetary-computer, synthetic, a STAC URL, or the path of a catalogue or folder of "
    "rasters [auto].",
    autocompletion=words("auto", "gee", "earth-search", "planetary-computer", "synthetic"),
)
Backend = Annotated[str | None, _BACKEND]
NoCache = Annotated[
    bool, _option("--no-cache", help="Read imagery anew, without the cache of pixels, and keep nothing of it.")
]
Collection = Annotated[
    str | None, _option("--collection", metavar="C", help="What the pixels are, such as s2, sentinel-1, landsat.")
]
Bands = Annotated[str | None, _option("--bands", metavar="B,B,…", help="Band names in their order, such as B4,B3,B2.")]
Scale = Annotated[
    float | None, _option("--scale", metavar="M", help="Ground sample distance to read at, metres a pixel.")
]
Cloudy = Annotated[
    float | None, _option("--cloudy", metavar="PCT", help="Leave out scenes with more cloud cover, percent.")
]
Composite = Annotated[
    str | None,
    _option(
        "--composite",
        metavar="NAME",
        help="median, mean or mosaic (first clear).",
        autocompletion=words("median", "mean", "mosaic"),
    ),
]
Units = Annotated[
    str | None,
    _option("--units", metavar="U", help="Of files of your own: reflectance (0 to 1), linear (radar) or dn (Landsat)."),
]
Modality = Annotated[
    str | None,
    _option("--modality", metavar="NAME", help="Which input of a model with several.", autocompletion=_modalities),
]
VariantName = Annotated[
    str | None, _option("--variant", metavar="NAME", help="Published size of the model.", autocompletion=_variants)
]
Pairs = Annotated[
    list[str] | None,
    _option("--option", metavar="NAME=VALUE", help="A model's own option; repeatable.", autocompletion=_pairs),
]


def given(**options: Any) -> list[str]:
    """Return the flags of the options that were given; ``time_col`` is ``--time-col``."""
    return [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, False, [], ())]


def bands_of(text: str | None) -> tuple[str, ...] | None:
    """Return the names of ``B4,B3,B2``."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        usage(f"--bands {text!r} must be names with commas between them, such as B4,B3,B2")
    return names


def model_options(pairs: list[str] | None, variant: str | None = None) -> dict[str, Any]:
    """Return ``NAME=VALUE`` pairs; values are read as JSON where they are JSON."""
    found: dict[str, Any] = {} if variant is None else {"variant": variant}
    for pair in pairs or []:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            usage(f"--option {pair!r} must be NAME=VALUE")
        if key in found:
            usage(f"the option {key} is given twice")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def model_option(flag: str, *, help: str) -> Any:
    """Return an option that takes a model's name."""
    return _option(flag, metavar="MODEL", help=help, autocompletion=_models)


def source_of(backend: str | None, *, no_cache: bool, model: str | None = None) -> Any:
    """Return where imagery comes from: a name, or what it names, opened without a cache; products have none."""
    from rs_embed.core.registry import get_spec

    if not no_cache or (model is not None and get_spec(model).product is not None):
        return backend or "auto"
    from rs_embed.providers.backends import open_provider

    return open_provider(backend or "auto", cache=False)


def one_place(point: Any, bbox: Any, buffer: float | None) -> Any:
    """Return the only place of a command."""
    from rs_embed.core.specs import BBox, PointBuffer

    if (point is None) == (bbox is None):
        usage(f"give {'one of' if point is None else 'only one of'} --point LON LAT and --bbox")
    if bbox is not None and buffer is not None:
        usage("--buffer belongs to points; a --bbox has its own size")
    if point is None:
        return BBox(*bbox)
    lon, lat = point
    return PointBuffer(lon, lat, BUFFER_M if buffer is None else buffer)


def span_of(time: str | None) -> Any:
    """Return a span of time, None where none is given."""
    from rs_embed.core.specs import TemporalSpec

    return None if time is None else TemporalSpec.parse(time)


def fetch_of(scale: float | None, cloudy: float | None, composite: str | None) -> Any:
    """Return the light override of a sensor, None where nothing is given."""
    from rs_embed.core.specs import FetchSpec

    if scale is None and cloudy is None and composite is None:
        return None
    return FetchSpec(scale_m=scale, cloudy_pct=cloudy, composite=composite)


@dataclass(frozen=True)
class Pixels:
    """What the command line says of pixels."""

    collection: str | None
    bands: tuple[str, ...] | None
    scale: float | None
    cloudy: float | None
    composite: str | None
    units: str | None
    backend: str | None
    no_cache: bool = False

    def fetching(self) -> list[str]:
        """Return the flags that say how imagery is to be fetched."""
        where = given(backend=self.backend, no_cache=self.no_cache)
        return [*where, *given(scale=self.scale, cloudy=self.cloudy, composite=self.composite)]

    def of(self, spec: ModelSpec) -> tuple[SensorSpec | None, FetchSpec | None]:
        """Return sensor and light override for a model, of which one at most is given."""
        fetch: FetchSpec | None = fetch_of(self.scale, self.cloudy, self.composite)
        if self.collection is None:
            if self.bands is not None:
                usage("--bands needs --collection, which says of what")
            return None, fetch
        sensor = sensor_of(spec, self.collection, self.bands)
        return (sensor if fetch is None else fetch.over(sensor)), None


def sensor_of(spec: ModelSpec | None, collection: str, bands: tuple[str, ...] | None) -> SensorSpec:
    """Return a sensor: without bands those that the model takes of it, else the sensor's own."""
    from rs_embed.core.sensors import find_sensor
    from rs_embed.core.specs import SensorSpec

    known = find_sensor(collection)
    for item in () if spec is None else spec.inputs.values():
        source = next((s for s in item.sources if s.sensor == known.id), None)
        if source is not None:
            own = bands or source.bands or item.bands
            return SensorSpec(collection, own, scale_m=item.gsd, cloudy_pct=item.cloudy_pct)
    return SensorSpec(collection, bands or known.default_bands, scale_m=known.gsd)
