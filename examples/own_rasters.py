"""A folder of one's own rasters to grids and a similarity map: `python examples/own_rasters.py FOLDER`.

Without a folder it writes two painted scenes and takes them.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from rs_embed import (
    OutputSpec,
    PointBuffer,
    SensorSpec,
    TemporalSpec,
    UserData,
    get_embeddings_batch_from_data,
    inspect_provider_patch,
    list_models_for_data,
    save,
)

COLLECTION = "COPERNICUS/S2_SR_HARMONIZED"
BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")


def paint(folder: Path) -> None:
    """Write two scenes of the painted landscape as GeoTIFFs with named bands."""
    for name, lon in (("lake", 11.457), ("town", 11.50)):
        found = inspect_provider_patch(
            spatial=PointBuffer(lon, 47.442, 640),
            temporal=TemporalSpec.parse("2022-07"),
            sensor=SensorSpec(COLLECTION, BANDS),
            backend="synthetic",
            return_array=True,
        )
        pixels, place = found["array_chw"], found["geobox"]
        shape = dict(zip(("count", "height", "width"), pixels.shape, strict=True))
        where = {"crs": place["crs"], "transform": Affine(*place["transform"])}
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", dtype="uint16", nodata=0, **shape, **where
        ) as f:
            f.write(np.rint(pixels).astype(np.uint16))
            f.descriptions = BANDS


def main(folder: Path) -> list[Path]:
    """Embed every GeoTIFF of the folder; return the grids written beside them."""
    files = sorted(folder.glob("*.tif"))
    july = TemporalSpec.parse("2022-07")
    scenes = [UserData.from_raster(file, collection=COLLECTION, temporal=july) for file in files]
    for row in list_models_for_data(scenes[0]):
        print(f"{row['model']:12} {'yes' if row['compatible'] else 'no: ' + row['reason']}"[:110])
    grids = get_embeddings_batch_from_data("rcf", scenes, output=OutputSpec.grid(), features=64, cell=4)
    written = []
    for file, grid in zip(files, grids, strict=True):
        out = file.with_name(f"{file.stem}_embedding.tif")
        save(grid, out, overwrite=True)
        likeness = grid.similarity(grid.values()[:, 5, 5])
        print(f"{out.name}: {grid.shape}, cells like the one at row 5, column 5: {np.mean(likeness > 0.95):.0%}")
        written.append(out)
    return written


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            paint(Path(made))
            main(Path(made))
