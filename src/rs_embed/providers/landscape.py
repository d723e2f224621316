"""A painted landscape, anywhere on Earth: every value is a pure function of ground coordinates and date.

Relief noise fills lakes and lays rivers along its zero lines; woods, towns and dry land grow where other noises are
high; the rest is farmed, in parishes of parcels, each with its own crop, rotation and sowing date. Nothing here knows
lattices, tiles or projections, so a test can compute any pixel from its longitude and latitude.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs_embed.providers.noise import EARTH, FEW, Cells, Lattice, blocks, cells, fraction, mix, smooth, sphere
from rs_embed.providers.spectra import BANDS, MATERIALS, REFLECTANCE, crop_materials, crop_year, forest_season
from rs_embed.providers.spectra import season as season_of

__all__ = [
    "BARE",
    "CLASSES",
    "CROP",
    "FOREST",
    "SHORE",
    "TOWN",
    "WATER",
    "Ground",
    "classes",
    "ground",
    "ground_at",
    "height",
    "materials",
    "numbers",
    "reflect",
    "surface",
    "turned",
]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

WATER, FOREST, CROP, BARE, TOWN = range(5)
CLASSES = ("water", "forest", "crop", "bare soil", "town")
"""Names of the land-cover classes, in the order of their numbers."""

# A turn of the globe, so that no lattice plane of the noise lies along the equator or a meridian.
_TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
_PARISH = 3600.0
"""Mean width of a block of parcels that lie one way, metres."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What stands at N points whatever the date; shares are in [0, 1]."""

    lat: Floats
    """Degrees."""
    water: Singles
    """Share of water."""
    depth: Singles
    """0 at the shore to 1 in deep water."""
    river: Singles
    """How much of the water is a river's."""
    bank: Singles
    """Share of sand beside the water."""
    forest: Singles
    conifer: Singles
    """Share of conifers in the forest."""
    bare: Singles
    town: Singles
    garden: Singles
    """Share of the town that is green."""
    paving: Singles
    """Share of the town that is street."""
    roof: Singles
    """Share of tiled roofs among the town's buildings."""
    hedge: Singles
    """Share of hedge and track between parcels."""
    road: Singles
    """Share of road over what stands there."""
    parcel: NDArray[np.uint32]
    """Hash of the parcel."""
    light: Singles
    """Brightness: texture of canopies, tillage and slopes, about 1."""

    def classes(self) -> NDArray[np.uint8]:
        """Return the land-cover class that has most of each point."""
        dry = [self.forest, 1 - self.forest - self.bare - self.town, self.bare, self.town]
        kind = np.argmax(np.stack(dry), axis=0).astype(np.uint8) + np.uint8(FOREST)
        return np.where(self.water >= 0.5, np.uint8(WATER), kind)

    def crop(self, day: date) -> NDArray[np.uint32]:
        """Return the number in `CROPS` that each point's parcel grows on a northern day."""
        rotation = fraction(mix(51, self.parcel, np.full((), crop_year(day), np.int32)))
        return np.searchsorted(_SHARES, rotation, side="right").astype(np.uint32)


def turned(vectors: Floats) -> Floats:
    """Return vectors ``(3, N)`` in the frame of the noise."""
    x, y, z = vectors
    # Written out: a matrix product by BLAS may round an element by its place in the array.
    return np.stack([row[0] * x + row[1] * y + row[2] * z for row in _TURN])


class _Octaves:
    """Noise of the wavelengths used at N points; each lattice is set up once."""

    def __init__(self, points: Floats) -> None:
        self.points = points
        self._lattices: dict[int, Lattice] = {}
        self._known: dict[tuple[int, int], Singles] = {}

    def __call__(self, wavelength: int, seed: int) -> Singles:
        key = (wavelength, seed)
        if key not in self._known:
            lattice = self._lattices.setdefault(wavelength, Lattice(self.points, wavelength))
            together = _TOGETHER.get(wavelength, ()) if self.points.shape[1] <= FEW else ()
            seeds = together if seed in together else (seed,)
            self._known |= {(wavelength, s): noise for s, noise in zip(seeds, lattice.noises(seeds), strict=True)}
        return self._known[key]

    def sum(self, seed: int, weights: Mapping[int, float]) -> Singles:
        """Return the sum of weighted octaves."""
        total = np.zeros(self.points.shape[1], np.float32)
        for wavelength, weight in weights.items():
            total += self(wavelength, seed) * np.float32(weight)
        return total


_SHARES = np.cumsum([0.26, 0.12, 0.20, 0.12, 0.22])
"""Upper ends of the crops' shares of the parcels, the last crop's excluded."""

_HEIGHT, _RIVER, _WOOD, _DRY, _TOWN, _FINE = 11, 12, 13, 14, 15, 16
_TOGETHER = {
    12800: (_HEIGHT, _RIVER, _DRY, _TOWN),
    6400: (_HEIGHT, _RIVER, _WOOD, _TOWN),
    3200: (_HEIGHT, _RIVER, _WOOD, _TOWN),
    1600: (_HEIGHT, _RIVER, _WOOD),
    800: (_HEIGHT, _RIVER, _WOOD, _DRY, _TOWN),
    400: (_HEIGHT, _WOOD, _DRY),
    200: (_HEIGHT, _WOOD),
    100: (_WOOD, _FINE),
}
"""Noises of one wavelength that `ground_at` uses, computed at once for few points."""
_RELIEF = {25600: 1.0, 12800: 0.8, 6400: 0.5, 3200: 0.3, 1600: 0.16, 800: 0.08, 400: 0.05, 200: 0.025}
_VALLEY = {12800: 1.0, 6400: 0.55, 3200: 0.32, 1600: 0.15, 800: 0.05}
_GROVES = {6400: 0.8, 3200: 0.7, 1600: 0.5, 800: 0.35, 400: 0.22, 200: 0.12, 100: 0.06}


def _parcels(mosaic: Cells) -> tuple[NDArray[np.uint32], Singles, Singles]:
    """Return each point's parcel, the distance to its edge and the place across it, metres."""
    width = 150 + 330 * fraction(mosaic.number).astype(np.float64)
    height = 90 + 240 * fraction(mosaic.number, 16).astype(np.float64)
    row_at = mosaic.v / height
    row = np.floor(row_at).astype(np.int32)
    column_at = mosaic.u / width + fraction(mix(21, mosaic.number, row))
    column = np.floor(column_at).astype(np.int32)
    number = mix(22, mosaic.number, row, column)
    across, along = (column_at - column).astype(np.float32), (row_at - row).astype(np.float32)
    wide, high = width.astype(np.float32), height.astype(np.float32)
    cut = np.float32(0.3) + np.float32(0.4) * fraction(number)
    split = (number >> np.uint32(30)) != 0
    far = split & (across > cut)
    left, right = np.where(far, cut, np.float32(0)), np.where(split & ~far, cut, np.float32(1))
    edge = np.minimum(np.minimum(across - left, right - across) * wide, np.minimum(along, 1 - along) * high)
    return mix(23, number, far), edge, across * wide


def _streets(mosaic: Cells) -> tuple[Singles, Singles, Singles]:
    """Return the share of street, and two hashes in [0, 1): of the block and of the house."""
    long, short = 118.0, 82.0
    u_at, v_at = mosaic.u / long, mosaic.v / short
    block_u, block_v = np.floor(u_at), np.floor(v_at)
    u, v = ((u_at - block_u) * long).astype(np.float32), ((v_at - block_v) * short).astype(np.float32)
    middle = np.minimum(np.minimum(u, np.float32(long) - u), np.minimum(v, np.float32(short) - v))
    street = 1 - smooth(middle, 3.0, 12.0)
    keys = block_u.astype(np.int32), block_v.astype(np.int32)
    block = fraction(mix(31, mosaic.number, *keys))
    plot = (u * np.float32(1 / 23)).astype(np.int32), (v * np.float32(1 / 19)).astype(np.int32)
    return street, block, fraction(mix(32, mosaic.number, *keys, *plot))


SHORE = np.float32(-0.665)
"""Height of the lakes' shores."""


def height(points: Floats) -> Singles:
    """Return the relief, about -1 to 1, at points in metres from the Earth's centre, in the frame of the noise."""
    return _Octaves(points).sum(_HEIGHT, _RELIEF)


def ground_at(points: Floats, lat: Floats) -> Ground:
    """Return the ground at points in metres from the Earth's centre, in the frame of the noise."""
    octave = _Octaves(points)
    warp = np.stack([octave(1600, s) + octave(3200, s) for s in (_HEIGHT, _RIVER, _WOOD)]) * np.float32(170)
    mosaic = cells(points, points + warp, _PARISH, 41)
    parcel, edge_at, across = _parcels(mosaic)
    lot = fraction(parcel, 8)

    height = octave.sum(_HEIGHT, _RELIEF)
    ripple = octave(400, _HEIGHT) * np.float32(0.05) + octave(200, _HEIGHT) * np.float32(0.02)
    valley = np.abs(octave.sum(_RIVER, _VALLEY) + ripple)
    lake = smooth(height, -0.655, -0.675)
    bed = np.float32(0.030) - np.float32(0.022) * octave(6400, _TOWN)
    river = smooth(valley - bed, 0.006, -0.006)
    water = np.maximum(lake, river)
    depth = np.maximum(smooth(height, -0.66, -0.86), np.float32(0.6) * smooth(valley - bed, 0.0, -0.05))
    bank = smooth(height, -0.60, -0.655) * smooth(octave(800, _DRY), 0.0, 0.4)

    fine, finer = octave(50, _FINE), octave(25, _FINE)
    grove = octave.sum(_WOOD, _GROVES) + np.float32(0.25) * smooth(valley - bed, 0.10, 0.01)
    wooded = grove + np.float32(0.5) * (lot - np.float32(0.5)) + np.float32(0.12) * height
    dryness = octave(51200, _DRY) + octave(12800, _DRY) * np.float32(0.6) + octave(800, _DRY) * np.float32(0.2)
    dry = smooth(dryness + np.float32(0.2) * octave(200, _WOOD), 0.52, 0.70)
    density = octave(12800, _TOWN) + octave(3200, _TOWN) * np.float32(0.55) + octave(800, _TOWN) * np.float32(0.22)
    density += np.float32(0.15) * (lot - np.float32(0.5))
    street, block, house = _streets(mosaic)

    land = 1 - water
    built = smooth(density, 0.70, 0.76) * land
    forest = smooth(wooded + np.float32(0.05) * fine, 0.25, 0.31) * (land - built)
    bare = dry * (land - built - forest)
    green = smooth(house + np.float32(0.35) * (1 - smooth(density, 0.70, 1.1)), 0.55, 0.75)
    park = smooth(block, 0.93, 0.94)
    road = (1 - smooth(mosaic.gap, 12.0, 34.0)) * (land - built)
    hedge = (1 - smooth(edge_at, 2.0, 9.0)) * (land - built - forest - bare)
    strip = fraction(mix(24, parcel, (across * np.float32(1 / 13)).astype(np.int32))) - np.float32(0.5)
    tillage = octave(100, _FINE) * np.float32(0.05) + np.float32(0.04) * strip
    canopy = np.float32(0.16) * fine + np.float32(0.14) * finer
    slope = np.float32(0.10) * octave(400, _WOOD) + np.float32(0.06) * octave(200, _WOOD)
    light = 1 + forest * (canopy + slope) + (land - forest) * (tillage + np.float32(0.03) * finer)
    light += built * np.float32(0.5) * (house - np.float32(0.5)) * (1 - street)
    return Ground(
        lat=lat,
        water=water,
        depth=depth,
        river=river * (1 - lake),
        bank=bank * (land - built),
        forest=forest,
        conifer=smooth(octave(1600, _WOOD) + octave(400, _DRY) * np.float32(0.5), -0.1, 0.2),
        bare=bare,
        town=built,
        garden=np.maximum(green * (1 - street), park),
        paving=street * (1 - park),
        roof=block,
        hedge=hedge,
        road=road,
        parcel=parcel,
        light=light,
    )


def _season(place: Ground, day: date, southern: bool) -> dict[str, Singles]:
    """Return the share of each material at points of one hemisphere."""
    own = season_of(day, southern)
    crop = (place.crop(own) * np.uint32(4) + ((place.parcel >> np.uint32(5)) & np.uint32(3))).astype(np.intp)
    table = crop_materials(own)
    farm = 1 - place.water - place.forest - place.bare - place.town
    field = farm - place.hedge
    shares = {name: field * table[:, i].take(crop) for i, name in enumerate(MATERIALS) if table[:, i].any()}
    # Woods keep their leaves in the tropics and shed them from about 40 degrees on.
    cold = smooth(np.abs(place.lat).astype(np.float32), 15.0, 40.0)
    leaf, autumn = forest_season(own)
    broad = place.forest * (1 - place.conifer) + np.float32(0.55) * place.hedge
    broad += np.float32(0.4) * place.town * place.garden
    green = 1 - cold * np.float32(1 - leaf)
    shares["leaf"] = broad * green
    shares["autumn"] = broad * cold * np.float32(autumn)
    shares["twig"] = broad - shares["leaf"] - shares["autumn"]
    return shares


def materials(place: Ground, day: date) -> dict[str, Singles]:
    """Return the share of each material at every point."""
    southern = place.lat < 0
    if southern.all() or not southern.any():
        shares = _season(place, day, bool(southern.all()))
    else:
        north, south = _season(place, day, False), _season(place, day, True)
        none = np.zeros_like(place.water)
        shares = {k: np.where(southern, south.get(k, none), north.get(k, none)) for k in north | south}
    tone = np.float32(0.15) + np.float32(0.6) * fraction(place.parcel, 3)
    soil = shares.pop("dark soil", np.zeros_like(tone))
    still = place.water * place.river
    lake = place.water - still
    green = place.town * place.garden
    paved = place.town * place.paving
    built = place.town - green - paved
    _add(shares, "light soil", soil * tone + np.float32(0.45) * place.hedge + np.float32(0.7) * place.bare)
    _add(shares, "dark soil", soil * (1 - tone))
    _add(shares, "sand", np.float32(0.3) * place.bare)
    _add(shares, "conifer", place.forest * place.conifer)
    _add(shares, "deep water", lake * place.depth + still * (np.float32(0.1) + place.depth))
    _add(shares, "shallow water", lake * (1 - place.depth))
    _add(shares, "river water", still * (np.float32(0.9) - place.depth))
    _add(shares, "grass", np.float32(0.6) * green)
    _add(shares, "asphalt", paved + np.float32(0.25) * built)
    _add(shares, "roof", np.float32(0.75) * built * place.roof)
    _add(shares, "concrete", np.float32(0.75) * built * (1 - place.roof))
    for over, material in ((place.bank, "sand"), (np.float32(0.8) * place.road, "asphalt")):
        shares = {name: share * (1 - over) for name, share in shares.items()}
        _add(shares, material, over)
    return shares


def _add(shares: dict[str, Singles], material: str, share: Singles) -> None:
    shares[material] = shares[material] + share if material in shares else share


def reflect(place: Ground, day: date, bands: Sequence[str]) -> Singles:
    """Return ``(bands, N)`` reflectance."""
    out = np.zeros((len(bands), place.water.size), np.float32)
    columns = [BANDS.index(band) for band in bands]
    few = place.water.size <= FEW
    for material, share in materials(place, day).items():
        row = REFLECTANCE[MATERIALS.index(material)]
        if few:
            out += share * row[columns][:, None]
            continue
        for number, column in enumerate(columns):
            out[number] += share * row[column]
    out *= place.light
    return out


def ground(lon: Floats, lat: Floats) -> Ground:
    """Return the ground at ``(N,)`` points in degrees."""
    up, _, _ = sphere(lon, lat)
    return ground_at(turned(up) * EARTH, lat)


def _flat(lon: ArrayLike, lat: ArrayLike) -> tuple[Floats, Floats, tuple[int, ...]]:
    lon, lat = np.broadcast_arrays(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
    return lon.ravel(), lat.ravel(), lon.shape


def classes(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.uint8]:
    """Return the land-cover class at points: indices into `CLASSES`, the same on every date.

    Parameters
    ----------
    lon, lat
        Degrees, of any one shape.
    """
    x, y, shape = _flat(lon, lat)
    out = np.empty(x.shape, np.uint8)
    for part in blocks(x.size):
        out[part] = ground(x[part], y[part]).classes()
    return out.reshape(shape)


def surface(lon: ArrayLike, lat: ArrayLike, day: date, bands: Sequence[str] = BANDS) -> Singles:
    """Return the cloudless surface at points on a date.

    Parameters
    ----------
    lon, lat
        Degrees, of any one shape ``S``.
    day
        Date: crops and woods follow the seasons, half a year apart between the hemispheres.
    bands
        Names of `BANDS`.

    Returns
    -------
    ndarray
        ``(bands, *S)`` float32, reflectance * 10000, whole numbers.
    """
    x, y, shape = _flat(lon, lat)
    out = np.empty((len(bands), x.size), np.float32)
    for part in blocks(x.size):
        out[:, part] = numbers(reflect(ground(x[part], y[part]), day, bands))
    return out.reshape(len(bands), *shape)


def numbers(reflectance: Singles) -> Singles:
    """Return reflectance as Sentinel-2's whole numbers, at least 1 (0 would be its mark for no data)."""
    out: Singles = np.rint(reflectance * np.float32(10000))
    return np.clip(out, np.float32(1), np.float32(20000))
