"""The public functions: thin, and light until they are called."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rs_embed.core.describe import describe
from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import ModelError, RSEmbedError
from rs_embed.core.region_table import list_regions
from rs_embed.core.registry import get_spec, list_models
from rs_embed.core.specs import FetchSpec, InputPrepSpec, OutputSpec, SensorSpec, TemporalSpec

if TYPE_CHECKING:
    from rs_embed.inference.session import Session
    from rs_embed.providers.arrays import UserData
    from rs_embed.providers.base import Provider

__all__ = [
    "describe_model",
    "disable_pretty_warnings",
    "enable_pretty_warnings",
    "get_embedding",
    "get_embedding_from_data",
    "get_embeddings_batch",
    "get_embeddings_batch_from_data",
    "iter_embeddings",
    "list_models",
    "list_models_for_data",
    "reset_runtime",
]

_POOLED = OutputSpec.pooled()


def describe_model(model: str) -> dict[str, Any]:
    """Return the static facts of a model: inputs, bands, frames, outputs, options, licence, citation.

    Raises
    ------
    ModelError
        If there is no model of that name; the message lists close matches.
    """
    return describe(get_spec(model))


def _open(model: str, backend: Any, call: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[Session, Provider]:
    """Open provider and session; a backend that needs a login prints the same call without one."""
    from rs_embed.inference.products import open_backend
    from rs_embed.inference.session import open_session

    spec = get_spec(model)
    provider = open_backend(spec, backend, call=_call_text(model, call, arguments))
    return open_session(spec, provider, **arguments), provider


_DEFAULTS: dict[str, Any] = {"output": _POOLED, "device": "auto", "input_prep": "resize", "precision": "float32"}


class _Short(reprlib.Repr):
    """Long lists of regions in a message: the first two."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = 2
        self.maxdict = self.maxother = self.maxstring = 400


def _call_text(model: str, call: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """Return the user's call with ``backend="auto"``, for the message of a missing login."""
    name = "get_embeddings_batch" if "spatials" in call else "get_embedding"
    short = _Short()
    said = {**call, **{k: v for k, v in arguments.items() if k != "options" and v != _DEFAULTS.get(k)}}
    said |= arguments["options"]
    inner = ", ".join(f"{k}={short.repr(v)}" for k, v in said.items() if v is not None)
    return f'{name}({model!r}, {inner}, backend="auto")'


def get_embedding(
    model: str,
    *,
    spatial: Any,
    temporal: TemporalSpec | None = None,
    sensor: SensorSpec | None = None,
    fetch: FetchSpec | None = None,
    modality: str | None = None,
    output: OutputSpec = _POOLED,
    backend: str | Provider = "gee",
    device: str = "auto",
    input_prep: InputPrepSpec | str | None = "resize",
    precision: str = "float32",
    **model_options: Any,
) -> Embedding:
    """Return the embedding of one place at one time.

    Parameters
    ----------
    model
        A model id or alias; `list_models` lists them.
    spatial
        `BBox`, `PointBuffer`, `Polygon`, a shapely geometry or GeoJSON; `Regions` or a GeoDataFrame of one.
    temporal
        The span of time; ``None`` takes 2022-06-01 to 2022-09-01, of a product its newest year, with a warning.
    sensor, fetch
        What to feed the model instead of its default input, or a light override of it; not both.
    modality
        Which input of a model with several.
    output
        ``OutputSpec.pooled()`` for a vector ``(D,)``, ``OutputSpec.grid()`` for ``(D, H, W)`` with coordinates.
    backend
        ``"gee"`` (Earth Engine), ``"auto"`` (open STAC services, without an account), ``"earth-search"``,
        ``"planetary-computer"``, a STAC URL, ``"synthetic"``, the path of a STAC catalogue or of a folder of rasters, a
        plug-in's name, or a `Provider`. Precomputed products are read from their own store, with ``"gee"`` from Earth
        Engine if it has them and there is a login; or from the URL or folder of a copy.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or any torch device.
    input_prep
        ``"resize"`` (one window), ``"tile"`` (windows at the native resolution), ``"auto"``, or `InputPrepSpec`.
    precision
        ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    **model_options
        The model's own: ``describe_model(model)["model_config"]``; an unknown one is an error.

    Raises
    ------
    SpecError
        A place, time, sensor or output that cannot be meant.
    ModelError
        An unknown model or option, weights that do not fit, or an input that the model cannot take.
    ProviderError
        Imagery that cannot be reached; `NoImageryError` where there is none.
    """
    from rs_embed.inference.calls import embed_regions

    call = {"spatial": spatial, "temporal": temporal}
    arguments = _arguments(sensor, fetch, modality, output, device, input_prep, precision, None, model_options)
    session, provider = _open(model, backend, call, arguments)
    return embed_regions(session, provider, [spatial], temporal, "raise", False, single=True)[0]


def _arguments(
    sensor: SensorSpec | None,
    fetch: FetchSpec | None,
    modality: str | None,
    output: OutputSpec,
    device: str,
    input_prep: InputPrepSpec | str | None,
    precision: str,
    batch_size: int | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "sensor": sensor,
        "fetch": fetch,
        "modality": modality,
        "output": output,
        "device": device,
        "input_prep": input_prep,
        "precision": precision,
        "batch_size": batch_size,
        "options": options,
    }


def get_embeddings_batch(
    model: str,
    *,
    spatials: Any,
    temporal: TemporalSpec | Sequence[TemporalSpec] | None = None,
    sensor: SensorSpec | None = None,
    fetch: FetchSpec | None = None,
    modality: str | None = None,
    output: OutputSpec = _POOLED,
    backend: str | Provider = "gee",
    device: str = "auto",
    input_prep: InputPrepSpec | str | None = "resize",
    on_error: str = "raise",
    batch_size: int | None = None,
    show_progress: bool | None = None,
    precision: str = "float32",
    **model_options: Any,
) -> list[Embedding]:
    """Return the embeddings of many places, in their order; all else is as in `get_embedding`.

    Parameters
    ----------
    spatials
        A non-empty sequence of regions, `Regions` (see `read_regions`), a GeoDataFrame (its index are the ids, other
        columns labels), or a GeoJSON FeatureCollection. Names go to ``meta["id"]``, labels to ``meta["labels"]``.
    temporal
        One span for all, or one a region; ``None`` takes the regions' own, else 2022-06-01 to 2022-09-01, with a
        warning.
    on_error
        ``"raise"`` finishes the other regions and then raises `BatchError`; ``"return"`` gives a NaN embedding with
        ``.ok = False`` and ``meta["error"]`` for a region that failed.
    batch_size
        Windows of one forward pass; ``None`` chooses by device.
    show_progress
        ``None`` draws a progress bar where standard error is a terminal.

    Raises
    ------
    BatchError
        Some regions failed; it holds the results of the others.
    """
    from rs_embed.inference.calls import embed_regions

    get_spec(model)
    regions = list_regions(spatials)
    call = {"spatials": regions, "temporal": temporal}
    arguments = _arguments(sensor, fetch, modality, output, device, input_prep, precision, batch_size, model_options)
    session, provider = _open(model, backend, call, arguments)
    return embed_regions(session, provider, regions, temporal, on_error, show_progress)


def iter_embeddings(
    model: str,
    *,
    spatials: Any,
    temporal: TemporalSpec | Sequence[TemporalSpec] | None = None,
    sensor: SensorSpec | None = None,
    fetch: FetchSpec | None = None,
    modality: str | None = None,
    output: OutputSpec = _POOLED,
    backend: str | Provider = "auto",
    device: str = "auto",
    input_prep: InputPrepSpec | str | None = "resize",
    on_error: str = "raise",
    batch_size: int | None = None,
    show_progress: bool | None = None,
    precision: str = "float32",
    **model_options: Any,
) -> Generator[Embedding, None, None]:
    """Return an iterator over the embeddings of many places, in their order, whose memory does not grow with them.

    What can be told before any work is told by this call; regions are loaded and embedded, a little ahead, as the
    iterator is asked for them. Closing it, or leaving its loop, cancels what is under way. All else is as in
    `get_embeddings_batch`.

    Parameters
    ----------
    on_error
        ``"raise"`` raises the error of the first region that failed when its turn comes, which ends the iteration;
        ``"return"`` gives a NaN embedding with ``.ok = False`` and ``meta["error"]``, and goes on.

    Examples
    --------
    >>> for embedding in iter_embeddings("rcf", spatials=read_regions("fields.gpkg"), temporal=TemporalSpec.year(2022)):
    ...     write(embedding.id, embedding.data)  # doctest: +SKIP
    """
    from rs_embed.inference.calls import iter_regions

    get_spec(model)
    regions = list_regions(spatials)
    call = {"spatials": regions, "temporal": temporal}
    arguments = _arguments(sensor, fetch, modality, output, device, input_prep, precision, batch_size, model_options)
    session, provider = _open(model, backend, call, arguments)
    return iter_regions(session, provider, regions, temporal, on_error, show_progress)


def get_embedding_from_data(
    model: str,
    data: UserData | Sequence[UserData],
    *,
    modality: str | None = None,
    output: OutputSpec = _POOLED,
    device: str = "auto",
    input_prep: InputPrepSpec | str | None = "resize",
    precision: str = "float32",
    **model_options: Any,
) -> Embedding:
    """Return the embedding of pixels of your own, one array or several of one place; see the batch function."""
    arguments = _arguments(None, None, modality, output, device, input_prep, precision, None, model_options)
    return _from_data(model, [data], arguments, "raise", False, single=True)[0]


def _from_data(
    model: str,
    datas: Sequence[UserData | Sequence[UserData]],
    arguments: Mapping[str, Any],
    on_error: str,
    show_progress: bool | None,
    *,
    single: bool = False,
) -> list[Embedding]:
    from rs_embed.inference.calls import check_on_error, progress_bar
    from rs_embed.inference.from_data import embed_data

    check_on_error(on_error)
    progress = progress_bar(show_progress)
    return embed_data(model, datas, arguments, on_error=on_error, progress=progress, single=single)


def get_embeddings_batch_from_data(
    model: str,
    datas: Sequence[UserData | Sequence[UserData]],
    *,
    modality: str | None = None,
    output: OutputSpec = _POOLED,
    device: str = "auto",
    input_prep: InputPrepSpec | str | None = "resize",
    batch_size: int | None = None,
    on_error: str = "raise",
    show_progress: bool | None = None,
    precision: str = "float32",
    **model_options: Any,
) -> list[Embedding]:
    """Return the embeddings of arrays in memory, in their order.

    An array that covers the plan's window gives the vector of its region to the last bit; a smaller one is padded with
    invalid pixels. Without a georeference there is no place, and one pixel of the array is one pixel of the model.

    Parameters
    ----------
    datas
        One array for each region, or a tuple of several of one place, each of another sensor: the model's modality is
        then the one of these sensors. The first array says where the region is and which of it is meant; the others are
        resampled onto it, or, without a georeference, lie on its pixels (a single pixel counts everywhere).

    Raises
    ------
    ModelError
        If the model cannot take the collections together, or the bands of the data.
    SpecError
        If several arrays of one place are of one sensor, or it cannot be told where one of them lies.
    """
    if not isinstance(datas, Sequence) or isinstance(datas, str) or not datas:
        raise ModelError("datas must be a non-empty list of UserData, or of tuples of them")
    arguments = _arguments(None, None, modality, output, device, input_prep, precision, batch_size, model_options)
    return _from_data(model, datas, arguments, on_error, show_progress)


def list_models_for_data(data: UserData | Sequence[UserData]) -> list[dict[str, Any]]:
    """Return, for each model, whether it can take the data (several arrays: together) and why not otherwise.

    Returns
    -------
    list of dict
        ``{"model", "compatible", "bands_used", "reason"}``, sorted by model.
    """
    from rs_embed.inference.from_data import compatible

    found = []
    for name in list_models():
        try:
            bands: list[str] | None = compatible(name, data)
            reason = None
        except RSEmbedError as error:
            bands, reason = None, str(error)
        found.append({"model": name, "compatible": reason is None, "bands_used": bands, "reason": reason})
    return found


def reset_runtime() -> dict[str, int]:
    """Free all loaded models; return how many there were."""
    from rs_embed.inference.runtime import reset

    return reset()


def enable_pretty_warnings() -> None:
    """Do nothing: warnings are never patched here (kept for code written elsewhere)."""
    warnings.warn("enable_pretty_warnings does nothing and will go", DeprecationWarning, stacklevel=2)


def disable_pretty_warnings() -> None:
    """Do nothing: warnings are never patched here (kept for code written elsewhere)."""
    warnings.warn("disable_pretty_warnings does nothing and will go", DeprecationWarning, stacklevel=2)
