"""A folder of scenes as ``.npy`` arrays ``(C, H, W)``, each with a ``.json`` beside it, as ``backend="npy:FOLDER"``.

The JSON says ``sensor``, ``time`` (ISO 8601 with zone), ``bands``, ``crs`` and ``transform`` (six numbers); pixels are
in the sensor's harmonised units (linear power for radar), NaN where there is no data.
"""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
from affine import Affine

from rs_embed.plugin import GeoBox, Grid, ProviderError, Scene, SceneProvider, resample


class NpyFolder(SceneProvider):
    name = "npy"

    def __init__(self, folder):
        self.source = Path(folder).name
        self.items = {file.stem: json.loads(file.read_text()) for file in sorted(Path(folder).glob("*.json"))}
        if not self.items:
            raise ProviderError(f"{self.source} holds no scene: a .json beside every .npy")
        self.pixels = {name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in self.items}

    def offers(self, sensor):
        return any(item["sensor"] == sensor for item in self.items.values())

    def search(self, request, interval):
        found = ((name, item) for name, item in self.items.items() if item["sensor"] == request.sensor)
        return [Scene(name, datetime.fromisoformat(item["time"]), frozenset(item["bands"])) for name, item in found]

    def read(self, scene, bands, geobox):
        item, pixels = self.items[scene.id], self.pixels[scene.id]
        box = GeoBox(pixels.shape[1:], Affine(*item["transform"]), item["crs"])
        layers = [(pixels[item["bands"].index(band)][None], band == "SCL") for band in bands]
        grid = Grid(*box.shape, box.affine, box.crs)
        return np.concatenate([resample(lambda r, c, a=a: a[:, r, c], 1, grid, geobox, classes=k) for a, k in layers])
