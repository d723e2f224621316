"""Draw the figures of README and docs with the library itself: `python docs/draw_figures.py`.

All but the first are of the painted landscape. The first is of real imagery and needs the folder of reference data
(``--data``) and the checkpoint of Galileo nano (``--checkpoint``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import shapely
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from rs_embed import (
    FetchSpec,
    InputPrepSpec,
    OutputSpec,
    PointBuffer,
    Polygon,
    SensorSpec,
    TemporalSpec,
    UserData,
    get_embedding,
    get_embeddings_batch_from_data,
    inspect_model_input,
    inspect_provider_patch,
)
from rs_embed.core.geometry import locate
from rs_embed.inference.session import open_session
from rs_embed.providers.synthetic import SyntheticProvider

HERE = Path(__file__).parent / "figures"
SHARED = Path(__file__).parents[2] / "shared"
PLACE = (11.457, 47.442)
SUMMER = TemporalSpec.range("2022-07-15", "2022-09-01")
RGB = SensorSpec("COPERNICUS/S2_SR_HARMONIZED", ("B4", "B3", "B2"))
BLUE, ORANGE = "#1f5fa8", "#f28e2b"


def colours(bands: NDArray[np.float32], white: float = 2500.0) -> NDArray[np.float32]:
    """Return red, green and blue reflectances ``(3, H, W)`` as a picture ``(H, W, 3)``."""
    return np.moveaxis(np.clip(bands / white, 0, 1) ** 0.7, 0, -1)


def picture(half_m: float, **more: Any) -> NDArray[np.float32]:
    """Return the true colours of the painted landscape."""
    call = {"temporal": SUMMER, "sensor": RGB, "backend": "synthetic"} | more
    found = inspect_provider_patch(spatial=PointBuffer(*PLACE, half_m), return_array=True, **call)
    return colours(found["array_chw"])


def bare(axes: Any, title: str = "") -> None:
    """Take the axes away and give a title."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=9)


def save(figure: Any, name: str) -> None:
    """Write a figure."""
    figure.savefig(HERE / name, dpi=110, bbox_inches="tight", pil_kwargs={"optimize": True})
    plt.close(figure)


def real_scenes(data: Path, checkpoint: Path) -> None:
    """Draw five real scenes and the first three components of Galileo's cells."""
    names = {
        "637U_59R_1_3": "fields",
        "38D_378R_2_3": "dry valley",
        "282D_485L_3_3": "coast",
        "433D_629L_3_1": "town",
        "609U_541L_3_0": "river in winter",
    }
    shifted = {"282D_485L_3_3", "433D_629L_3_1", "609U_541L_3_0"}  # DN with the offset of baseline 04.00
    july = TemporalSpec.parse("2020-07")
    scenes, grids, side, window = [], [], 192, 64
    for name in names:
        scene = UserData.from_raster(data / "terramind_scenes" / "S2L1C" / f"{name}.tif", collection="S2_L1C")
        pixels = np.maximum(scene.data[:, :side, :side].astype(np.float32) - 1000 * (name in shifted), 0)
        cuts = [
            UserData(np.ascontiguousarray(pixels[:, i : i + window, j : j + window]), "S2_L1C", temporal=july)
            for i in range(0, side, window)
            for j in range(0, side, window)
        ]
        found = get_embeddings_batch_from_data(
            "galileo", cuts, output=OutputSpec.grid(), patch_size=4, checkpoint=str(checkpoint)
        )
        grids.append(np.stack([each.values() for each in found]))
        scenes.append(pixels[[3, 2, 1]])
    # a net knows where in its window a cell lies: the mean of all windows at each position is that, and no ground
    position = np.mean(grids, axis=(0, 1))
    figure, axes = plt.subplots(2, 5, figsize=(11, 4.6), gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for column, (title, pixels, grid) in enumerate(zip(names.values(), scenes, grids, strict=True)):
        low, high = np.quantile(pixels, [0.01, 0.98])
        axes[0, column].imshow(colours(pixels - low, high - low))
        cells = (grid - position).reshape(3, 3, len(position), 16, 16).transpose(2, 0, 3, 1, 4).reshape(-1, 48 * 48)
        axes[1, column].imshow(components(cells).reshape(48, 48, 3), interpolation="nearest")
        bare(axes[0, column], title)
        bare(axes[1, column])
    axes[0, 0].set_ylabel("Sentinel-2", fontsize=9)
    axes[1, 0].set_ylabel("Galileo nano", fontsize=9)
    save(figure, "galileo_scenes.png")


def components(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first three principal components of cells ``(D, n)`` as colours ``(n, 3)``."""
    centred = (cells - cells.mean(1, keepdims=True)).T
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    found = centred @ axes[:3].T
    low, high = np.quantile(found, [0.02, 0.98], axis=0)
    return np.clip((found - low) / (high - low), 0, 1)


def windows() -> None:
    """Draw where the windows of each mode go."""
    half, region = 1700.0, PointBuffer(*PLACE, 1700.0)
    margin = 2700.0
    background = picture(margin)
    modes = {
        "resize: one window, coarser pixels": InputPrepSpec.resize(),
        "tile: whole windows at 10 m": InputPrepSpec.tile(),
        "tile, overlapping by half": InputPrepSpec.tile(tile_stride=64),
    }
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.7))
    centre = locate(region).shape.centroid
    for axis, (title, prep) in zip(axes, modes.items(), strict=True):
        session = open_session("galileo", SyntheticProvider(), input_prep=prep)
        plan = session.plan(region, SUMMER)
        axis.imshow(background, extent=(-margin, margin, -margin, margin))
        for block in plan.blocks:
            for each in block.windows:
                left, bottom, right, top = plan.lattice.bounds(each.rect)
                corner = left - centre.x, bottom - centre.y
                axis.add_patch(Rectangle(corner, right - left, top - bottom, fill=False, edgecolor=ORANGE, lw=1.2))
        axis.add_patch(Rectangle((-half, -half), 2 * half, 2 * half, fill=False, edgecolor="white", lw=2, ls="--"))
        bare(axis, f"{title}\n{plan.windows} window(s), {plan.effective_gsd:.3g} m a pixel")
    save(figure, "windows.png")


def masks() -> None:
    """Draw one cloudy scene, its usable pixels, and the composite of a summer."""
    half, scene = 2560.0, TemporalSpec.range("2022-09-08", "2022-09-13")
    everything = {"sensor": SensorSpec(RGB.collection, RGB.bands, cloudy_pct=100, composite="mosaic")}
    first = inspect_provider_patch(
        spatial=PointBuffer(*PLACE, half), temporal=scene, backend="synthetic", return_array=True, **everything
    )
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.7))
    single = first["array_chw"]
    axes[0].imshow(colours(single))
    share = first["report"]["valid_frac"]
    bare(
        axes[0],
        f"the only scene from {scene.start} to {scene.end}:\nblack under clouds and their shadows ({1 - share:.0%})",
    )
    axes[1].imshow(np.all(single != 0, axis=0), cmap=mpl.colors.ListedColormap(["#222222", "#d8e6f3"]), vmin=0, vmax=1)
    bare(axes[1], "valid: what a model is told\nof these pixels")
    axes[2].imshow(picture(half))
    bare(axes[2], "median of the clear pixels,\n15 July to 31 August")
    save(figure, "masks.png")


def frames() -> None:
    """Draw the frames of a model of time series."""
    found = inspect_model_input(
        "galileo",
        spatial=PointBuffer(*PLACE, 1280),
        temporal=TemporalSpec.range("2022-07-25", "2022-08-24"),
        backend="synthetic",
        fetch=FetchSpec(cloudy_pct=100),
        return_arrays=True,
        n_frames=6,
    )["frames"]
    figure, axes = plt.subplots(1, len(found), figsize=(11, 2.4))
    for axis, frame in zip(axes, found, strict=True):
        axis.imshow(colours(frame["array_chw"][[2, 1, 0]]))
        bare(axis, f"{frame['start'][:10]}\nvalid {frame['report']['valid_frac']:.0%}")
    save(figure, "frames.png")


def pooling() -> None:
    """Draw the cells of a polygon and the share of each that lies inside."""
    lon, lat = PLACE
    outline = shapely.Polygon([(lon - 0.016, lat - 0.004), (lon + 0.004, lat - 0.011), (lon + 0.015, lat + 0.008)])
    grid = get_embedding(
        "rcf", spatial=outline, temporal=SUMMER, backend="synthetic", output=OutputSpec.grid(), features=64, cell=12
    )
    plan = open_session("rcf", SyntheticProvider(), output=OutputSpec.grid(), options={"cell": 12}).plan(
        Polygon(outline), SUMMER
    )
    inside = locate(Polygon(outline)).coverage(plan.grid_geobox)
    values = grid.values().reshape(len(grid.values()), -1)
    there = np.isfinite(values[0])
    shown = np.ones((values.shape[1], 3))
    shown[there] = components(np.sqrt(values[:, there]))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    share = axes[0].imshow(inside, cmap="Blues", vmin=0, vmax=1)
    bare(axes[0], "coverage: area fraction of a cell inside the polygon")
    figure.colorbar(share, ax=axes[0], shrink=0.8)
    axes[1].imshow(shown.reshape(*inside.shape, 3), interpolation="nearest")
    bare(axes[1], "grid: cells outside are NaN (first three components)")
    left, top, size = plan.grid_geobox.affine.c, plan.grid_geobox.affine.f, plan.grid_geobox.affine.a
    x, y = locate(Polygon(outline)).shape.exterior.xy
    for axis in axes:
        axis.plot((np.array(x) - left) / size - 0.5, (top - np.array(y)) / size - 0.5, color=ORANGE, lw=1.5)
    save(figure, "pooling.png")


def main() -> None:
    """Draw what can be drawn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--checkpoint", type=Path, default=SHARED / "weights" / "galileo_nano" / "encoder.pt")
    given = parser.parse_args()
    HERE.mkdir(exist_ok=True)
    painted: list[Callable[[], None]] = [windows, masks, frames, pooling]
    for draw in painted:
        draw()
    if given.data.is_dir() and given.checkpoint.is_file():
        real_scenes(given.data, given.checkpoint)
    else:
        print(f"no reference data in {given.data}: galileo_scenes.png is left as it is")


if __name__ == "__main__":
    main()
