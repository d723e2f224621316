"""Looking at imagery and at a model's input, without running a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs_embed.core.registry import get_spec
from rs_embed.core.specs import FetchSpec, SensorSpec, TemporalSpec

if TYPE_CHECKING:
    from rs_embed.providers.base import Provider

__all__ = ["compare_backends", "inspect_gee_patch", "inspect_model_input", "inspect_provider_patch"]


def inspect_provider_patch(
    *,
    spatial: Any,
    temporal: TemporalSpec | None = None,
    sensor: SensorSpec,
    backend: str | Provider = "gee",
    name: str = "gee_patch",
    value_range: tuple[float, float] | None = None,
    return_array: bool = False,
    picture: str | Path | None = None,
) -> dict[str, Any]:
    """Return a quality report of imagery, without a model.

    Parameters
    ----------
    spatial, temporal, sensor, backend
        As for `get_embedding`; the report is of the region's bounding rectangle.
    name
        Of the report, and of the file that ``sensor.check_save_dir`` gets.
    value_range
        Lowest and highest value that is to be expected, in the sensor's units.
    return_array
        Also return the pixels.
    picture
        A .png file: true colour where the bands allow it, stretched from the 2nd to the 98th percentile, invalid pixels
        magenta.

    Returns
    -------
    dict
        ``ok``, ``report`` (shape, finite share, statistics and histogram by band, issues), ``sensor``, ``temporal``,
        ``backend`` (which really answered), ``notes`` (what it said of how the pixels came about), ``scenes``,
        ``artifacts``, and ``array_chw`` (invalid pixels as ``sensor.fill_value``) where asked for.
    """
    from rs_embed.inference.calls import one_span_each
    from rs_embed.inference.inspect import inspect_patch
    from rs_embed.providers.backends import open_provider

    provider = open_provider(backend)
    span = one_span_each(temporal, 1)[0]
    return inspect_patch(
        provider,
        spatial,
        span,
        sensor,
        name=name,
        value_range=value_range,
        return_array=return_array,
        picture=None if picture is None else Path(picture),
    )


def compare_backends(
    backend_a: str | Provider,
    backend_b: str | Provider,
    *,
    spatial: Any,
    temporal: TemporalSpec | None = None,
    sensor: SensorSpec,
    tolerance: float | None = None,
    valid_tolerance: float = 0.01,
) -> dict[str, Any]:
    """Return how far two backends' imagery of one place and time differs, band by band.

    Parameters
    ----------
    backend_a, backend_b
        As ``backend`` of `get_embedding`.
    spatial, temporal, sensor
        As for `inspect_provider_patch`.
    tolerance
        What 99 % of the pixels of each band may differ by, in the sensor's units; ``None``: 1 of reflectance * 10000,
        0.01 dB, 0.001 else.
    valid_tolerance
        Share of the pixels that may be valid in one of the two only.

    Returns
    -------
    dict
        ``ok``, ``verdict`` (one line), ``bands`` (``band``, ``ok``, ``valid_in_both``, ``mean_a``, ``mean_b``,
        ``mean_difference`` B - A, ``median_absolute``, ``p99_absolute``, ``correlation``, ``hint``), ``valid_a``,
        ``valid_b``, ``valid_differs``, ``scenes_a``, ``scenes_b``, ``only_a`` and ``only_b`` (moments of acquisition),
        ``notes_a``, ``notes_b``, ``shift_px`` (rows and columns), ``geobox``.

    Raises
    ------
    ProviderError
        If one of the two has no imagery or cannot be read; the message names which.
    """
    from rs_embed.inference.calls import one_span_each
    from rs_embed.inference.compare import compare_providers
    from rs_embed.inference.inspect import patch_request
    from rs_embed.providers.backends import open_provider

    a, b = open_provider(backend_a), open_provider(backend_b)
    request, geobox = patch_request(spatial, one_span_each(temporal, 1)[0], sensor)
    names = _named(backend_a, a), _named(backend_b, b)
    found = compare_providers(a, b, request, geobox, names=names, tolerance=tolerance, valid_tolerance=valid_tolerance)
    return found.to_dict()


def _named(backend: Any, provider: Provider) -> str:
    """Return what a report calls a backend: of a path its last part, of an address what is no secret."""
    from rs_embed.providers.services import without_secrets

    if not isinstance(backend, str | Path):
        return provider.name
    if "://" in str(backend):
        return without_secrets(str(backend).strip())
    return Path(backend).name if Path(backend).exists() else str(backend)


def inspect_gee_patch(**arguments: Any) -> dict[str, Any]:
    """Return `inspect_provider_patch` of the same arguments (the older name)."""
    return inspect_provider_patch(**arguments)


def inspect_model_input(
    model: str,
    *,
    spatial: Any,
    temporal: TemporalSpec | None = None,
    sensor: SensorSpec | None = None,
    fetch: FetchSpec | None = None,
    modality: str | None = None,
    backend: str | Provider = "gee",
    value_range: tuple[float, float] | None = None,
    return_arrays: bool = False,
    picture: str | Path | None = None,
    **model_options: Any,
) -> dict[str, Any]:
    """Return a quality report of each frame that a model would get, without running it.

    Parameters
    ----------
    model, spatial, temporal, sensor, fetch, modality, backend, **model_options
        As for `get_embedding`.
    value_range, return_arrays, picture
        As for `inspect_provider_patch`; the picture shows the frames side by side, each input in rows of its own.

    Returns
    -------
    dict
        ``ok``, ``model``, ``backend``, ``notes``, ``n_frames``, ``n_empty``, ``frames`` (``index``, ``start``, ``end``,
        ``empty``, ``report``, ``array_chw`` where asked for), ``fetch_meta``, ``sensor``, ``temporal``, ``artifacts``.
    """
    from rs_embed.inference.calls import spans_of
    from rs_embed.inference.inspect import inspect_input
    from rs_embed.inference.products import open_backend
    from rs_embed.inference.session import open_session

    spec = get_spec(model)
    provider = open_backend(spec, backend)
    session = open_session(spec, provider, sensor=sensor, fetch=fetch, modality=modality, options=model_options)
    found, spans = spans_of(session, [spatial], temporal, single=True)
    return inspect_input(
        session,
        provider,
        found[0],
        spans[0],
        value_range=value_range,
        return_arrays=return_arrays,
        picture=None if picture is None else Path(picture),
    )
