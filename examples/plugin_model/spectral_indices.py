"""Vegetation, water and built-up indices of every pixel; a region's vector has their means and deviations."""

import numpy as np

from rs_embed.plugin import Affine, Clip, Features, InputSpec, ModelSpec, Source, Variant, Window

PAIRS = (("B8", "B4"), ("B3", "B8"), ("B11", "B8"))  # NDVI (Rouse 1974), NDWI (McFeeters 1996), NDBI (Zha 2003)
BANDS = ("B3", "B4", "B8", "B11")


class Indices:
    net = None  # numpy only: no weights

    def __call__(self, batch):
        images = batch.inputs["s2"]
        of = {name: images.pixels[:, 0, i] for i, name in enumerate(images.bands)}  # (N, H, W) reflectance
        grid = [(of[a] - of[b]) / np.maximum(of[a] + of[b], np.float32(1e-4)) for a, b in PAIRS]
        return Features(grid=np.stack(grid, axis=1))  # (N, D, H, W): each pixel is a cell

    def head(self, vectors):
        return vectors


MODEL = ModelSpec(
    name="spectral-indices",
    title="NDVI, NDWI and NDBI: mean and standard deviation",
    inputs={"s2": InputSpec((Source("sentinel-2-l2a", (Affine(1e-4), Clip(0.0, 1.0))),), BANDS)},
    variants={"default": Variant(Window(size=None), {"pooled": 2 * len(PAIRS), "grid": len(PAIRS)}, parameters=0)},
    encoder=lambda build: Indices(),
    pooled="cells",
    pooled_says="the mean of every index over the region's pixels, then the standard deviation of every index",
    statistics=("mean", "std"),
    locality="pixel",
    citation="@article{mcfeeters1996, title={The use of the Normalized Difference Water Index (NDWI)}, year={1996}}",
    licence={"code": "Apache-2.0", "weights": "none"},
    source="https://doi.org/10.1080/01431169608948714",
)
