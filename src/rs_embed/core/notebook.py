"""The card that a notebook shows of an embedding: a small picture, and what it is of."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.cells import quick_axes

__all__ = ["draw_card"]

_LARGEST = 96
"""Cells along a side of the thumbnail; larger grids are thinned."""
_SAMPLED = 400
"""Cells that its components are found from."""
_STRIP = 256
"""Bars of a vector's strip; longer vectors are averaged."""
_HEIGHT = 64
_NEGATIVE, _POSITIVE = (44, 92, 168), (216, 96, 42)

Singles = NDArray[np.float32]
Picture = NDArray[np.uint8]

_GREY = "rgba(128,128,128,.35)"
_CARD = (
    "display:inline-flex;gap:14px;align-items:flex-start;padding:10px 14px;border-radius:6px;"
    f"border:1px solid {_GREY};background:transparent;color:inherit;font:13px/1.5 system-ui,sans-serif"
)
_IMAGE = f"image-rendering:pixelated;border-radius:3px;border:1px solid {_GREY}"


def draw_card(values: Singles, meta: Mapping[str, Any], *, ok: bool) -> str:
    """Return HTML without scripts or links; its text takes the notebook's colour, so that it suits dark and light.

    Parameters
    ----------
    values
        ``(D,)`` or ``(D, H, W)``.
    meta
        The embedding's; everything from it is escaped.
    ok
        Whether it is an embedding, and not the record of a failure.
    """
    shape = " × ".join(map(str, values.shape))
    title = html.escape(str(meta.get("model") or "embedding"))
    if meta.get("id") is not None:
        title += f" · {html.escape(str(meta['id']))}"
    rows = "".join(
        f'<tr style="background:none"><td style="opacity:.65;padding:0 12px 0 0;text-align:left;border:0">{name}</td>'
        f'<td style="padding:0;text-align:left;border:0">{html.escape(text)}</td></tr>'
        for name, text in _facts(meta, ok=ok)
    )
    return (
        f'<div style="{_CARD}">{_picture(values)}<div><div style="font-weight:600">{title} '
        f'<span style="font-weight:400;opacity:.65">{shape} float32</span></div>'
        f'<table style="margin:2px 0 0;border-collapse:collapse;border:0;font:inherit;color:inherit">{rows}</table>'
        "</div></div>"
    )


def _facts(meta: Mapping[str, Any], *, ok: bool) -> list[tuple[str, str]]:
    """Return what is known of place, dates, sky and source, in that order."""
    found: list[tuple[str, str]] = []
    if not ok:
        found.append(("failed", str(meta.get("error"))))
    if center := meta.get("center"):
        lon, lat = center
        found.append(("place", f"{abs(lat):.4f}° {'NS'[lat < 0]}, {abs(lon):.4f}° {'EW'[lon < 0]}"))
    if time := meta.get("temporal"):
        found.append(("dates", f"{time.get('start')} to {time.get('end')}"))
    if isinstance(meta.get("clear_fraction"), float | int):
        found.append(("clear", f"{meta['clear_fraction']:.0%}"))
    if meta.get("output") == "pooled" and meta.get("pooling"):
        found.append(("pooling", str(meta["pooling"])))
    if meta.get("crs") and meta.get("output") == "grid":
        found.append(("crs", str(meta["crs"])[:40]))
    if meta.get("backend"):
        found.append(("source", str(meta["backend"])))
    if count := len(meta.get("warnings") or []):
        found.append(("warnings", f"{count}, in meta['warnings']"))
    return found


def _picture(values: Singles) -> str:
    """Return an ``img`` of a grid's components or of a vector's bars; nothing where there is no number."""
    if not np.isfinite(values).any():
        return ""
    if values.ndim == 3:
        picture = _components(values)
        height, width = picture.shape[:2]
        scale = 128 / max(height, width)
        size = f'width="{max(1, round(width * scale))}" height="{max(1, round(height * scale))}"'
        what = "first three principal components"
    else:
        picture, size, what = _strip(values), 'width="192" height="64"', "values along the dimensions"
    data = base64.b64encode(_png(picture)).decode()
    return f'<img alt="{what}" title="{what}" {size} style="{_IMAGE}" src="data:image/png;base64,{data}">'


def _components(grid: Singles) -> Picture:
    """Return ``(h, w, 4)``: three components as red, green and blue between their 2nd and 98th percentile."""
    step = -(-max(grid.shape[1:]) // _LARGEST)
    thin = grid[:, ::step, ::step]
    there = np.isfinite(thin).all(0)
    picture = np.zeros((*there.shape, 4), np.uint8)
    cells = thin[:, there].T
    if not len(cells):
        return picture
    basis = quick_axes(cells[:: -(-len(cells) // _SAMPLED)], 3)
    found = basis.project(cells)
    low, high = np.quantile(found, [0.02, 0.98], axis=0)
    level = np.clip((found - low) / np.maximum(high - low, 1e-12), 0, 1)
    colours = np.full((len(cells), 3), 0.5)
    colours[:, : level.shape[1]] = level
    picture[there] = np.column_stack(((colours * 255).astype(np.uint8), np.full(len(cells), 255, np.uint8)))
    return picture


def _strip(vector: Singles) -> Picture:
    """Return ``(h, w, 4)``: a bar a value, upwards where it is positive, downwards where it is negative."""
    finite = np.nan_to_num(vector, nan=0.0, posinf=0.0, neginf=0.0)
    bars = [part.mean() for part in np.array_split(finite, min(len(finite), _STRIP))]
    level = np.asarray(bars) / max(float(np.quantile(np.abs(bars), 0.98)), 1e-12)
    middle = 0 if (level <= 0).all() else _HEIGHT if (level >= 0).all() else _HEIGHT // 2
    reach = np.rint(np.clip(np.abs(level), 0, 1) * max(middle, _HEIGHT - middle))
    row = np.arange(_HEIGHT)[:, None]
    picture = np.zeros((_HEIGHT, len(level), 4), np.uint8)
    picture[(level > 0) & (row < middle) & (row >= middle - reach)] = (*_POSITIVE, 255)
    picture[(level < 0) & (row >= middle) & (row < middle + reach)] = (*_NEGATIVE, 255)
    return np.repeat(picture, -(-_STRIP // len(level)), axis=1)


def _png(picture: Picture) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
