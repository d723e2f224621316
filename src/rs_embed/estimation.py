"""What a call would cost, before anything is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rs_embed.core.registry import get_spec
from rs_embed.core.specs import FetchSpec, InputPrepSpec, OutputSpec, SensorSpec, TemporalSpec

if TYPE_CHECKING:
    from rs_embed.inference.estimate import Estimate
    from rs_embed.providers.base import Provider

__all__ = ["estimate"]

_POOLED = OutputSpec.pooled()


def estimate(
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
    batch_size: int | None = None,
    show_progress: bool | None = None,
    precision: str = "float32",
    calibrate: bool = False,
    bandwidth_mb_s: float | None = None,
    **model_options: Any,
) -> Estimate:
    """Return what a call of `get_embeddings_batch` would find, read, run and leave behind.

    Every region is planned and its scenes are searched, once for each 1° cell and interval where the backend is a
    service; no pixel is read and no weight loaded, only the header of one file of each band. A single region is a list
    of one.

    Parameters
    ----------
    model, spatials, temporal, sensor, fetch, modality, output, device, input_prep, batch_size, precision
        As for `get_embeddings_batch`.
    backend
        As there. Without a login to Earth Engine, ``"gee"`` is estimated without its scenes, and the login counts as
        missing.
    show_progress
        ``None`` draws a progress bar where standard error is a terminal.
    calibrate
        Build the net with random weights and time a pass or two, a few seconds: without it, there is no estimate of
        the time that the net takes.
    bandwidth_mb_s
        Megabytes a second at which imagery and weights arrive; ``None`` assumes a rate by backend.

    Returns
    -------
    Estimate
        ``regions``, ``windows``, ``forwards``; ``intervals`` with the scenes found and their cloud cover;
        ``no_imagery`` and ``failed`` regions with the reason; ``missing_bands``; ``read_bytes``; ``weights_bytes``;
        ``output_bytes`` and the sizes of ``files`` by suffix; ``seconds``; what is ``missing`` on this machine; and
        the ``assumptions`` made. ``.to_dict()`` is ready for JSON.

    Raises
    ------
    RSEmbedError
        What the call itself would raise before any work.
    """
    from rs_embed.inference.calls import progress_bar, spans_of
    from rs_embed.inference.estimate import Costs, estimate_chips, estimate_regions, open_for_estimate
    from rs_embed.inference.products import open_backend
    from rs_embed.inference.session import open_session

    spec = get_spec(model)
    costs = Costs(calibrate, bandwidth_mb_s)
    provider, lacking = open_for_estimate(backend) if spec.product is None else (open_backend(spec, backend), ())
    session = open_session(
        model,
        provider,
        sensor=sensor,
        fetch=fetch,
        modality=modality,
        output=output,
        device=device,
        input_prep=input_prep,
        precision=precision,
        batch_size=batch_size,
        options=model_options,
    )
    found, spans = spans_of(session, spatials, temporal)
    jobs = list(session.jobs(found, spans, provider))
    if spec.product is not None and spec.product.chips:
        return estimate_chips(session, jobs, costs)
    return estimate_regions(session, provider, jobs, costs, lacking, progress_bar(show_progress, "estimating"))
