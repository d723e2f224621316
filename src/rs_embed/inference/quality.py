"""What is wrong with an input, in numbers, and a picture of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import ModelError, SpecError
from rs_embed.core.imagery import ImageStack
from rs_embed.core.specs import SensorSpec
from rs_embed.inference.provenance import plain
from rs_embed.inference.quicklook import draw, save_picture

__all__ = ["check_stack", "quality_report", "save_quicklook"]

BINS = 32


def quality_report(
    pixels: NDArray[np.float32],
    valid: NDArray[np.bool_],
    *,
    name: str,
    fill_value: float,
    value_range: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Return shape, shares, statistics by band and what is wrong with ``(C, H, W)``.

    Invalid pixels count as ``fill_value`` in ``fill_frac`` and stay out of the statistics.
    """
    usable = valid & np.isfinite(pixels).all(0)
    share = float(usable.mean())
    report: dict[str, Any] = {
        "name": name,
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "finite_frac": float(np.isfinite(pixels[:, valid]).mean()) if valid.any() else 0.0,
        "valid_frac": share,
        "fill_value": fill_value,
        "fill_frac": 1 - share,
        "quantiles": [0.01, 0.5, 0.99],
        "hist_bins": BINS,
    }
    issues = []
    if report["finite_frac"] < 0.999:
        issues.append(f"only {report['finite_frac']:.2%} of the values are finite")
    if report["fill_frac"] > 0.98:
        issues.append(f"{report['fill_frac']:.1%} of the pixels are invalid")
    if usable.any():
        values = pixels[:, usable].astype(np.float64)  # (C, n)
        low, high = value_range if value_range is not None else (float(values.min()), float(values.max()))
        quantiles = np.quantile(values, report["quantiles"], axis=1)
        report |= {
            "band_min": values.min(1).tolist(),
            "band_max": values.max(1).tolist(),
            "band_mean": values.mean(1).tolist(),
            "band_std": values.std(1).tolist(),
            "band_quantiles": quantiles.T.tolist(),
            "band_p01": quantiles[0].tolist(),
            "band_p50": quantiles[1].tolist(),
            "band_p99": quantiles[2].tolist(),
            "hist_range": [low, high],
            "band_hist": [np.histogram(band, BINS, (low, max(high, low + 1e-9)))[0].tolist() for band in values],
        }
        report["hist"] = np.sum(report["band_hist"], axis=0).tolist()
        constant = [i for i, std in enumerate(report["band_std"]) if std < 1e-6]
        if constant and values.shape[1] > 1:  # one pixel cannot be anything else
            issues.append(f"bands {constant} are constant")
        if value_range is not None:
            outside = float(((values < low) | (values > high)).mean())
            report["outside_range_frac"] = outside
            if outside > 0.001:
                issues.append(f"{outside:.2%} of the values lie outside {value_range}")
    report |= {"issues": issues, "ok": not issues}
    found: dict[str, Any] = plain(report)
    return found


def save_quicklook(pixels: NDArray[np.float32], valid: NDArray[np.bool_], folder: str, name: str) -> str:
    """Write the first three bands (or the first as grey) as a PNG, one pixel a pixel; see `quicklook.draw`.

    Returns
    -------
    str
        Name of the file in ``folder``.

    Raises
    ------
    SpecError
        If the folder cannot be written.
    """
    target = Path(folder)
    file = f"{name}.png"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"SensorSpec.check_save_dir={folder!r} cannot be written: {error.strerror}") from error
    bands = pixels[:3] if len(pixels) >= 3 else pixels[:1]
    save_picture(draw(bands[None], valid[None])[0], target / file)
    return file


def check_stack(name: str, sensor: SensorSpec, stack: ImageStack, block: int) -> list[dict[str, Any]]:
    """Return one report a frame of a loaded block.

    Raises
    ------
    ModelError
        With ``sensor.check_raise``, if a frame has an issue.
    """
    reports = []
    for frame, (pixels, valid) in enumerate(zip(stack.pixels, stack.valid, strict=True)):
        label = f"{name}-block{block}-frame{frame}"
        report = quality_report(pixels, valid, name=label, fill_value=sensor.fill_value)
        if sensor.check_save_dir is not None:
            report["quicklook"] = save_quicklook(pixels, valid, sensor.check_save_dir, label)
        if sensor.check_raise and not report["ok"]:
            raise ModelError(
                f"Input inspection failed for {label}: {'; '.join(report['issues'])}; check_raise=False only reports it"
            )
        reports.append(report)
    return reports
