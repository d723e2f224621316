"""Pictures of imagery: true colour where the bands allow it, stretched between percentiles, invalid pixels marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import SpecError
from rs_embed.core.sensors import Sensor

__all__ = ["INVALID", "check_picture", "colour_bands", "contact_sheet", "draw", "save_picture"]

INVALID = (255, 0, 255)
"""Magenta, which no stretched land or water has."""
LIGHT = (0.665, 0.56, 0.49)
"""Centres of red, green and blue, µm."""
NEAR = 0.035
"""How far from them a band may lie, µm."""
SIDE = 256
"""Smaller pictures are enlarged by a whole factor until one side has as many pixels."""
GAP = 4
"""Pixels between the pictures of a sheet."""

Picture = NDArray[np.uint8]


def colour_bands(sensor: Sensor, bands: Sequence[str]) -> list[int]:
    """Return which bands to show: red, green and blue; else the first three; else the first as grey."""
    waves = np.array([sensor.band(name).wavelength for name in bands])
    if np.isfinite(waves).any():
        nearest = [int(np.nanargmin(np.abs(waves - light))) for light in LIGHT]
        if all(abs(waves[i] - light) <= NEAR for i, light in zip(nearest, LIGHT, strict=True)):
            return nearest
    return [0, 1, 2] if len(bands) >= 3 else [0]


def draw(frames: NDArray[np.float32], valid: NDArray[np.bool_]) -> list[Picture]:
    """Return frames ``(T, C, H, W)`` of one or three bands as pictures ``(H, W, 3)``.

    Each band is stretched between the 2nd and 98th percentile of its valid pixels in all frames, so that frames
    compare; invalid pixels are `INVALID`.
    """
    usable = valid & np.isfinite(frames).all(1)
    levels = np.zeros(frames.shape, np.uint8)
    for band in range(frames.shape[1]):
        if usable.any():
            values = np.where(usable, frames[:, band], 0)
            low, high = np.quantile(values[usable], [0.02, 0.98])
            share = (values - low) / max(float(high - low), 1e-9)
            levels[:, band] = (np.clip(share, 0, 1) * 255).astype(np.uint8)
    pictures = np.moveaxis(np.broadcast_to(levels, (len(levels), 3, *levels.shape[2:])), 1, -1).copy()
    pictures[~usable] = INVALID
    return list(pictures)


def contact_sheet(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Return rows of pictures on white, each enlarged by the same whole factor where the whole is small."""
    width = max(sum(p.shape[1] for p in row) for row in rows)
    height = sum(max(p.shape[0] for p in row) for row in rows)
    factor = max(1, -(-SIDE // max(width, height)))
    large = [[p.repeat(factor, 0).repeat(factor, 1) for p in row] for row in rows]
    wide = max(sum(p.shape[1] + GAP for p in row) for row in large) - GAP
    tall = sum(max(p.shape[0] for p in row) + GAP for row in large) - GAP
    sheet = np.full((tall, wide, 3), 255, np.uint8)
    top = 0
    for row in large:
        left = 0
        for picture in row:
            sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            left += picture.shape[1] + GAP
        top += max(p.shape[0] for p in row) + GAP
    return sheet


def check_picture(path: Path) -> None:
    """Raise `SpecError` where no PNG can be written, before any work."""
    if path.suffix.lower() != ".png":
        raise SpecError(f"{path.name}: a quicklook is a .png file")
    if not path.parent.is_dir():
        raise SpecError(f"{path}: the folder {str(path.parent)!r} does not exist; create it first")


def save_picture(picture: Picture, path: Path) -> None:
    """Write a PNG whole or not at all.

    Raises
    ------
    SpecError
        If the folder cannot be written.
    """
    from PIL import Image

    part = path.with_name(f".{path.name}.part")
    try:
        Image.fromarray(picture).save(part, format="PNG")
        part.replace(path)
    except OSError as error:
        raise SpecError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
