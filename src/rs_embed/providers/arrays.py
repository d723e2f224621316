"""The user's own pixels as imagery: an array in memory answers on any lattice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ProviderError, SpecError
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.providers.harmonise import Decoding, decoding_of_units
from rs_embed.providers.masks import MASKS
from rs_embed.providers.resample import Grid, alignment, resample
from rs_embed.providers.user_data import UserData

__all__ = ["ArrayProvider", "ArraysProvider", "UserData"]


class ArrayProvider:
    """Imagery that is an array in memory.

    Parameters
    ----------
    data
        The array and what is known of it.
    """

    name = "user_data"
    source = "user_data"

    def __init__(self, data: UserData) -> None:
        self.data = data

    def offers(self, sensor: str) -> bool:
        """Whether the array is of that sensor."""
        return sensor == self.data.sensor.id

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        """Yield the array's frames on each part: its own pixels where they are aligned, else resampled.

        Intervals and composite of the request do not matter: the frames are what the user gave.

        Raises
        ------
        ProviderError
            If the array is of another sensor, or has none of the bands.
        """
        if not self.offers(request.sensor):
            raise ProviderError(f"the data are of {self.data.sensor.id}, not of {request.sensor}")
        channel = {band: i for i, band in enumerate(self.data.canonical_bands)}
        missing = tuple(band for band in request.bands if band not in channel)
        if len(missing) == len(request.bands):
            raise ProviderError(f"the data have no band {', '.join(missing)}; they have {', '.join(channel)}")
        for part in parts:
            yield self._stack(request, part, channel, missing)

    def _stack(
        self, request: ImageRequest, part: GeoBox, channel: Mapping[str, int], missing: tuple[str, ...]
    ) -> ImageStack:
        times = self.data.times
        pixels = np.zeros((len(times), len(request.bands), *part.shape), np.float32)
        valid = np.zeros((len(times), *part.shape), bool)
        present = [i for i, band in enumerate(request.bands) if band not in missing]
        bands = [request.bands[i] for i in present]
        mask_band = self.data.sensor.mask_band or ""
        total = len(times) * self._covered(part)
        alike = self._one_decoding(bands)
        for t in range(len(times)):
            if alike is not None:
                values = self._channels(t, [channel[band] for band in bands], alike, part)
            else:
                values = np.concatenate([self._channel(t, channel[band], band, part) for band in bands])
            known = np.isfinite(values).all(axis=0)
            if request.mask is not None and mask_band in channel:
                known &= MASKS[request.mask](self._channel(t, channel[mask_band], mask_band, part)[0])
            pixels[t, present] = np.where(known, values, 0)
            valid[t] = known
        return ImageStack(
            pixels, valid, times, part, missing, ((),) * len(times), (int(valid.sum()), max(total, int(valid.sum())))
        )

    def _one_decoding(self, bands: Sequence[str]) -> Decoding | None:
        """The decoding that all bands share, for continuous optical ones: they are read at once."""
        sensor = self.data.sensor
        if sensor.kind == "radar" or any(sensor.band(band).classes for band in bands):
            return None
        found = {self._decoding(band) for band in bands}
        return found.pop() if len(found) == 1 else None

    def _channels(self, frame: int, channels: list[int], decode: Decoding, part: GeoBox) -> NDArray[np.float32]:
        """``(C, H, W)`` harmonised, NaN where there is none, of bands that are decoded alike."""
        planes = self.data.data[frame] if self.data.data.ndim == 4 else self.data.data
        chosen = planes if channels == list(range(len(planes))) else None

        def read(rows: slice, cols: slice) -> NDArray[np.float32]:
            return decode(planes[channels, rows, cols] if chosen is None else chosen[:, rows, cols])

        return resample(read, len(channels), self._grid, part)

    def _covered(self, part: GeoBox) -> int:
        """Pixels of a part that lie on the array, usable or not."""
        found = alignment(self._grid, part)
        if found is not None and found[0] == 1:
            rows = min(found[1] + part.shape[0], self._grid.height) - max(found[1], 0)
            cols = min(found[2] + part.shape[1], self._grid.width) - max(found[2], 0)
            return int(max(0, rows) * max(0, cols))
        everywhere = np.float32(1)

        def read(rows: slice, cols: slice) -> NDArray[np.float32]:
            return np.full((1, rows.stop - rows.start, cols.stop - cols.start), everywhere)

        return int(np.isfinite(resample(read, 1, self._grid, part, classes=True)).sum())

    @property
    def _grid(self) -> Grid:
        box = self.data.geobox
        return Grid(int(box.shape[0]), int(box.shape[1]), box.affine, box.crs)

    def _channel(self, frame: int, index: int, band: str, part: GeoBox) -> NDArray[np.float32]:
        """``(1, H, W)`` harmonised, NaN where there is none."""
        sensor = self.data.sensor
        plane = self.data.data[frame, index] if self.data.data.ndim == 4 else self.data.data[index]
        classes = sensor.band(band).classes
        decode = self._decoding(band)
        found = alignment(self._grid, part)
        as_they_are = sensor.kind == "radar" and decode.law == "decibel" and found is not None and found[0] == 1
        if as_they_are:
            decode = Decoding(self.data.nodata)  # decibels that nothing averages need no way to power and back

        def read(rows: slice, cols: slice) -> NDArray[np.float32]:
            return decode(plane[None, rows, cols])

        values = resample(read, 1, self._grid, part, classes=classes)
        if sensor.kind != "radar" or as_they_are or classes:
            return values
        positive = values > 0
        return np.where(positive, 10 * np.log10(np.where(positive, values, 1).astype(np.float64)), np.nan).astype(
            np.float32
        )

    def _decoding(self, band: str) -> Decoding:
        sensor, units = self.data.sensor, self.data.units
        if sensor.kind == "radar":
            return decoding_of_units(sensor, band, units or sensor.units, nodata=self.data.nodata)
        if units is None:
            return Decoding(self.data.nodata)  # harmonised: zero is a value unless nodata says otherwise
        return decoding_of_units(sensor, band, units, nodata=self.data.nodata)


class ArraysProvider:
    """Imagery of one place that is several arrays in memory, each of another sensor.

    Parameters
    ----------
    datas
        The arrays. The first says where the pixels lie. Another one with a georeference of its own is resampled; one
        without lies on the first's pixels and must have as many, or is a single pixel that counts everywhere.

    Raises
    ------
    SpecError
        If two are of one sensor, or it cannot be told where the pixels of one lie.
    """

    name = "user_data"
    source = "user_data"

    def __init__(self, datas: Sequence[UserData]) -> None:
        first, *others = datas
        self.arrays: dict[str, ArrayProvider] = {}
        for data in (first, *(_on(first, other) for other in others)):
            if data.sensor.id in self.arrays:
                raise SpecError(f"two of the arrays of one place are of {data.sensor.id}; give one for each sensor")
            self.arrays[data.sensor.id] = ArrayProvider(data)

    def offers(self, sensor: str) -> bool:
        """Whether one of the arrays is of that sensor."""
        return sensor in self.arrays

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        """Yield the frames of the sensor's array on each part, as `ArrayProvider` does.

        Raises
        ------
        ProviderError
            If no array is of the sensor, or it has none of the bands.
        """
        if not self.offers(request.sensor):
            raise ProviderError(f"the data are of {', '.join(self.arrays)}, not of {request.sensor}")
        return self.arrays[request.sensor].load(request, parts)


def _on(first: UserData, other: UserData) -> UserData:
    """Return an array with the first's georeference where it has none of its own."""
    if other.crs is not None:
        if first.crs is None:
            raise SpecError(
                f"the array of {other.sensor.id} has a georeference and the first, of {first.sensor.id}, has none; "
                "give it crs and transform, or put the placed one first"
            )
        return other
    side, own = first.data.shape[-2:], other.data.shape[-2:]
    if own not in (side, (1, 1)):
        raise SpecError(
            f"the array of {other.sensor.id} has {own[0]} x {own[1]} pixels and no georeference, and the first, of "
            f"{first.sensor.id}, {side[0]} x {side[1]}; give it crs and transform, as many pixels, or a single one"
        )
    everywhere = np.broadcast_to(other.data, (*other.data.shape[:-2], *side))
    return replace(
        other, data=everywhere, crs=first.crs, transform=first.transform, scale_m=first.scale_m or first.sensor.gsd
    )
