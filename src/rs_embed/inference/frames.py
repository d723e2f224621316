"""From a span of time to the intervals of a model's frames."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

from rs_embed.core.errors import ModelError
from rs_embed.core.imagery import Interval
from rs_embed.core.model_spec import Frames
from rs_embed.core.specs import TemporalSpec

__all__ = ["split_time"]


def _months(start: datetime, end: datetime) -> list[Interval]:
    """Split at the first of each month; an end piece shorter than half a month joins its neighbour."""
    edges = [start]
    while edges[-1] < end:
        year, month = divmod(edges[-1].year * 12 + edges[-1].month, 12)
        edges.append(min(end, datetime(year, month + 1, 1, tzinfo=start.tzinfo)))
    half = timedelta(days=14)
    if len(edges) > 2 and edges[1] - edges[0] < half:
        del edges[1]
    if len(edges) > 2 and edges[-1] - edges[-2] < half:
        del edges[-2]
    return list(itertools.pairwise(edges))


def split_time(frames: Frames, temporal: TemporalSpec | None, model: str) -> tuple[Interval, ...]:
    """Return the interval of each frame.

    Raises
    ------
    ModelError
        If the span makes more frames than the net takes.
    """
    if temporal is None or frames.kind == "static":
        return ()
    start, end = temporal.interval
    if frames.kind == "acquisitions" or frames.step == "whole":
        return ((start, end),)
    if frames.step == "month":
        found = _months(start, end)
    else:
        width = (end - start) / int(frames.step)
        found = [(start + i * width, start + (i + 1) * width) for i in range(int(frames.step))]
    if len(found) > frames.max:
        raise ModelError(
            f"{model} takes at most {frames.max} frames, and {start.date()}/{end.date()} makes {len(found)}; "
            "give a shorter time, or fewer and longer frames where the model has an option for it"
        )
    return tuple(found)
