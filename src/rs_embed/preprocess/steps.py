"""Steps from a sensor's harmonised pixels to what a net takes, as its authors prepare them.

A step is frozen data that can be called on frames ``(T, C, H, W)`` float32. It never modifies its argument: each makes
at most one new array and works inside it. A value is one number for all bands, or a tuple of one number a band.
Steps come after `rs_embed.preprocess.fill.fill_invalid`, so that they see finite numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rs_embed.preprocess.antialias import Method, resample

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Affine", "Clip", "Normalize", "Resize", "Stretch8bit", "Values", "pick_bands", "resize_crop_uint8"]

Values = float | tuple[float, ...]
"""One number, or one a band."""

Frames = NDArray[np.float32]


def _over(values: Values) -> NDArray[np.float32] | np.float32:
    """The values as something that broadcasts over ``(T, C, H, W)``."""
    return np.asarray(values, np.float32)[:, None, None] if isinstance(values, tuple) else np.float32(values)


def _json(values: Values) -> float | list[float]:
    return [float(v) for v in values] if isinstance(values, tuple) else float(values)


def pick_bands(values: Values, indices: Sequence[int]) -> Values:
    """Return the numbers of some bands, in the order of `indices`; one number for all stays."""
    return tuple(values[i] for i in indices) if isinstance(values, tuple) else values


def _numbers(values: Values) -> tuple[float, ...]:
    return values if isinstance(values, tuple) else (values,)


@dataclass(frozen=True)
class Affine:
    """``x * scale + offset``."""

    scale: Values = 1.0
    offset: Values = 0.0

    def __call__(self, pixels: Frames) -> Frames:
        """Map ``(T, C, H, W)`` to the same shape."""
        out: Frames = np.multiply(pixels, _over(self.scale), dtype=np.float32)
        out += _over(self.offset)
        return out

    def pick(self, indices: Sequence[int]) -> Affine:
        """Return the step for some of the bands."""
        return Affine(pick_bands(self.scale, indices), pick_bands(self.offset, indices))

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {"step": "affine", "scale": _json(self.scale), "offset": _json(self.offset)}


@dataclass(frozen=True)
class Clip:
    """Limit values to ``[low, high]``."""

    low: Values
    high: Values

    def __call__(self, pixels: Frames) -> Frames:
        """Map ``(T, C, H, W)`` to the same shape."""
        return np.clip(pixels, _over(self.low), _over(self.high))

    def pick(self, indices: Sequence[int]) -> Clip:
        """Return the step for some of the bands."""
        return Clip(pick_bands(self.low, indices), pick_bands(self.high, indices))

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {"step": "clip", "low": _json(self.low), "high": _json(self.high)}


@dataclass(frozen=True)
class Normalize:
    """``(x - mean) / std``, in this order of operations."""

    mean: Values
    std: Values

    def __post_init__(self) -> None:
        if any(value <= 0 for value in _numbers(self.std)):
            raise ValueError(f"std must be positive, got {self.std!r}")

    def __call__(self, pixels: Frames) -> Frames:
        """Map ``(T, C, H, W)`` to the same shape."""
        out: Frames = np.subtract(pixels, _over(self.mean), dtype=np.float32)
        out /= _over(self.std)
        return out

    def pick(self, indices: Sequence[int]) -> Normalize:
        """Return the step for some of the bands."""
        return Normalize(pick_bands(self.mean, indices), pick_bands(self.std, indices))

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {"step": "normalize", "mean": _json(self.mean), "std": _json(self.std)}


@dataclass(frozen=True)
class Stretch8bit:
    """Grey levels 0 to 255 of reflectance × 10 000, as an image viewer would show it.

    ``low`` becomes 0 and ``high`` 255, linearly; values beyond are clipped; the level is the nearest whole number,
    halves to the even one, or the next one below. The result is float32 with whole numbers.
    """

    low: Values
    """In the sensor's units."""
    high: Values
    """In the sensor's units."""
    rounding: Literal["nearest", "down"] = "nearest"

    def __post_init__(self) -> None:
        if np.any(np.asarray(self.high) <= np.asarray(self.low)):
            raise ValueError(f"high must be above low, got {self.low!r} and {self.high!r}")

    def __call__(self, pixels: Frames) -> Frames:
        """Map ``(T, C, H, W)`` to the same shape."""
        low, high = _over(self.low), _over(self.high)
        out: Frames = np.subtract(pixels, low, dtype=np.float32)
        if self.rounding == "down":  # a level must not fall short of itself by the last digit of a quotient
            out *= np.float32(255)
            out /= high - low
        else:
            out *= np.float32(255) / (high - low)
        np.clip(out, 0, 255, out=out)
        return np.rint(out, out=out) if self.rounding == "nearest" else np.floor(out, out=out)

    def pick(self, indices: Sequence[int]) -> Stretch8bit:
        """Return the step for some of the bands."""
        return replace(self, low=pick_bands(self.low, indices), high=pick_bands(self.high, indices))

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {
            "step": "stretch_8bit",
            "low": _json(self.low),
            "high": _json(self.high),
            "to": [0, 255],
            "clip": True,
            "rounding": "nearest, halves to even" if self.rounding == "nearest" else "down",
        }


@dataclass(frozen=True)
class Resize:
    """Resample square frames with filters that widen when they shrink (antialiased).

    ``pillow_uint8`` is what the authors of nets for 8-bit images use: whole grey levels in, whole grey levels out,
    rounded after each of its two passes. ``pillow_float32`` keeps fractions (Pillow's mode ``F``). ``float32`` is
    torchvision's resize of tensors (`rs_embed.preprocess.antialias`), for authors who normalise before they resize.
    """

    size: int
    """Wanted side, pixels."""
    method: Method = "bicubic"
    arithmetic: Literal["pillow_uint8", "pillow_float32", "float32"] = "pillow_float32"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size!r}")

    def __call__(self, pixels: Frames) -> Frames:
        """Map ``(T, C, S, S)`` to ``(T, C, size, size)``; `pixels` itself where the size is already right."""
        steps, bands, height, width = pixels.shape
        if height != width:
            raise ValueError(f"windows are square, got {height} x {width} pixels")
        if height == self.size:
            return pixels
        if self.arithmetic == "float32":
            return resample(pixels, self.size, self.size, self.method)
        out = np.empty((steps, bands, self.size, self.size), np.float32)
        for frame, resized in zip(pixels, out, strict=True):
            for band, target in zip(frame, resized, strict=True):
                target[:] = self._band(band)
        return out

    def _band(self, band: NDArray[np.float32]) -> NDArray[np.generic]:
        """Resample one band ``(H, W)``."""
        from PIL import Image

        image = Image.fromarray(band.astype(np.uint8) if self.arithmetic == "pillow_uint8" else band)
        return np.asarray(image.resize((self.size, self.size), _filter(self.method)))

    def describe(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {"step": "resize", "size": self.size, "method": self.method, "arithmetic": self.arithmetic}


def _filter(method: Method) -> Image.Resampling:
    from PIL import Image

    return {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[method]


def resize_crop_uint8(image: NDArray[np.uint8], size: int, *, method: Method = "bicubic") -> NDArray[np.uint8]:
    """Resize the shorter side to `size` with Pillow, then cut the central square.

    The evaluation transform of CLIP-like models (torchvision's ``Resize(size)`` and ``CenterCrop(size)`` on a PIL
    image, as open_clip 3.3.0 builds them): the longer side becomes ``int(size * long / short)``, and the cut begins at
    Python's ``round((side - size) / 2)``, halves to even.

    Parameters
    ----------
    image : ndarray
        ``(H, W, C)`` uint8.
    size : int
        Wanted side, pixels.
    method : {"bicubic", "bilinear"}
        Filter, widened when it shrinks.

    Returns
    -------
    ndarray
        ``(size, size, C)`` uint8; `image` itself where it already is that large.
    """
    from PIL import Image

    height, width = image.shape[:2]
    if height == width == size:
        return image
    short = min(height, width)
    rows, columns = (size if side == short else int(size * side / short) for side in (height, width))
    bands = [
        np.asarray(Image.fromarray(np.ascontiguousarray(band)).resize((columns, rows), _filter(method)))
        for band in np.moveaxis(image, -1, 0)
    ]
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    return np.stack([band[top : top + size, left : left + size] for band in bands], axis=-1)
