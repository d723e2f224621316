"""Noise on the globe: smooth and cellular functions of a point of the sphere, the same on every machine.

Everything is integer hashing, additions, multiplications, roots and table look-ups, which IEEE 754 fixes to the bit
for each element: sines and logarithms are not among them, because vectorised libraries round those differently by
processor and by an element's place in its array. So a pixel's value does not depend on what is computed beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

__all__ = ["EARTH", "FEW", "Cells", "Lattice", "blocks", "cells", "fraction", "mix", "smooth", "sphere"]

EARTH = 6_371_008.8
"""Mean radius of the Earth, metres (IUGG)."""

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Words = NDArray[np.uint32]
Steps = NDArray[np.int32]

FEW = 1024
"""Points up to which calls of numpy cost more than their work: several things are then computed at once."""
_BLOCK = 1 << 14
_PRIMES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_FIFTEEN, _THIRTEEN, _SIXTEEN = np.uint32(15), np.uint32(13), np.uint32(16)
_LOW, _PART = np.uint32(0xFFFF), np.float32(1 / 65536)
_FIRST, _SECOND = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
# Taylor coefficients of sin(x) / x and cos(x) in x²; beyond |x| <= pi/4 the next term is below 1e-16.
_SIN = (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800, -1 / 1307674368000)
_COS = (1.0, -1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800, 1 / 479001600, -1 / 87178291200, 1 / 20922789888000)


def blocks(count: int) -> Iterator[slice]:
    """Yield slices of at most 16 384 elements: temporary arrays that fit a processor's cache."""
    for start in range(0, count, _BLOCK):
        yield slice(start, min(start + _BLOCK, count))


def _series(coefficients: tuple[float, ...], square: Floats) -> Floats:
    total = np.full_like(square, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= square
        total += coefficient
    return total


def _sine_cosine(degrees: Floats) -> tuple[Floats, Floats]:
    quarter = np.rint(degrees / 90.0)
    angle = (degrees - 90.0 * quarter) * (np.pi / 180.0)
    sine, cosine = angle * _series(_SIN, angle * angle), _series(_COS, angle * angle)
    turn = quarter.astype(np.int64) & 3
    swapped = (turn & 1).astype(bool)
    first, second = np.where(swapped, cosine, sine), np.where(swapped, sine, cosine)
    return np.where(turn >= 2, -first, first), np.where((turn == 1) | (turn == 2), -second, second)


def sphere(lon: Floats, lat: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the unit vectors up, east and north at points given in degrees, each ``(3, N)``."""
    sin_lon, cos_lon = _sine_cosine(lon)
    sin_lat, cos_lat = _sine_cosine(lat)
    up = np.stack([cos_lat * cos_lon, cos_lat * sin_lon, sin_lat])
    east = np.stack([-sin_lon, cos_lon, np.zeros_like(cos_lon)])
    north = np.stack([-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat])
    return up, east, north


def mix(seed: int, *keys: NDArray[np.integer]) -> Words:
    """Return a 32-bit hash of integer arrays (the finaliser of MurmurHash3 over a sum of odd multiples)."""
    return _hashed(
        np.uint32(_start(seed)), [_multiple(key, prime) for prime, key in zip(cycle(_PRIMES), keys, strict=False)]
    )


def _multiple(key: NDArray[np.integer], prime: int) -> Words:
    product: Words = key.astype(np.uint32) * np.uint32(prime)
    return product


def _start(seed: int) -> int:
    return (seed * 0x27D4EB2F + 0x165667B1) & 0xFFFFFFFF


def _hashed(start: np.uint32 | Words, multiples: Sequence[Words]) -> Words:
    """Return the hash of keys that are multiplied already; arrays broadcast one after the other."""
    word: Words = np.add(multiples[0], start)
    word ^= word >> _FIFTEEN
    for multiple in multiples[1:]:
        word = np.add(word, multiple)
        word ^= word >> _FIFTEEN
    word *= _FIRST
    word ^= word >> _THIRTEEN
    word *= _SECOND
    word ^= word >> _SIXTEEN
    return word


def fraction(word: Words, shift: int = 0) -> Singles:
    """Return sixteen bits of a hash, from bit ``shift`` on, as numbers in [0, 1)."""
    bits = word >> np.uint32(shift) if shift else word
    return (bits & _LOW).astype(np.float32) * _PART


def smooth(value: Singles, low: float, high: float) -> Singles:
    """Return 0 below ``low``, 1 above ``high`` and a cubic between (``low`` > ``high``: falling)."""
    t = np.clip((value - np.float32(low)) * np.float32(1.0 / (high - low)), np.float32(0), np.float32(1))
    eased: Singles = t * t * (np.float32(3) - np.float32(2) * t)
    return eased


@dataclass(frozen=True, eq=False)
class Lattice:
    """A cubic lattice through points ``(3, N)``: smooth noise of one wavelength, any number of channels."""

    points: Floats
    """Metres from the Earth's centre."""
    wavelength: float
    """Spacing of the lattice, metres."""

    @cached_property
    def _place(self) -> tuple[Steps, list[Singles]]:
        scaled = self.points * (1.0 / self.wavelength)
        floor = np.floor(scaled)
        scaled -= floor
        part = scaled.astype(np.float32)
        fade = part * np.float32(6)
        fade -= np.float32(15)
        fade *= part
        fade += np.float32(10)
        for _ in range(3):
            fade *= part
        return floor.astype(np.int32), list(fade)

    @cached_property
    def _table(self) -> tuple[list[Words], NDArray[np.intp]] | None:
        """Axes of the block of cells around the points and each point's place in it, where it is small."""
        index = self._place[0]
        low, high = index.min(axis=1), index.max(axis=1) + 2
        sizes = (int(high[0] - low[0]), int(high[1] - low[1]), int(high[2] - low[2]))
        if sizes[0] * sizes[1] * sizes[2] > 4 * index.shape[1]:
            return None
        axes = [np.arange(a, b, dtype=np.int32) for a, b in zip(low, high, strict=True)]
        x, y, z = (index - low[:, None]).astype(np.intp)
        return _outer(axes[0][:, None, None], axes[1][:, None], axes[2]), (x * sizes[1] + y) * sizes[2] + z

    @cached_property
    def _own(self) -> list[Words]:
        """``(2, N)`` for each axis: multiples of the cells before and after every point."""
        return [
            np.stack([(low := _multiple(place, prime)), low + np.uint32(prime)])
            for place, prime in zip(self._place[0], _PRIMES, strict=True)
        ]

    def _own_corners(self, seeds: Words) -> Singles:
        """Return `_corners` where the cells around the points are too many for a table."""
        x, y, z = self._own
        starts, shape = seeds[:, None], (8, len(seeds), x.shape[1])
        if x.shape[1] <= FEW:
            keys = [x[:, None, None, None], y[:, None, None], z[:, None]]
            return fraction(_hashed(starts, keys)).reshape(shape)
        out = np.empty(shape, np.float32)
        for row, (dx, dy, dz) in zip(out, _CORNERS, strict=True):
            row[:] = fraction(_hashed(starts, [x[dx], y[dy], z[dz]]))
        return out

    def _corners(self, seeds: Words) -> Singles:
        """Return ``(8, S, N)`` values at the corners of every point's cell, z fastest."""
        if self._table is None:
            return self._own_corners(seeds)
        axes, base = self._table
        values = fraction(_hashed(seeds[:, None, None, None], axes))
        _, _, high, wide = values.shape
        values = values.reshape(len(seeds), -1)
        out = np.empty((8, len(seeds), base.size), np.float32)
        for row, (dx, dy, dz) in zip(out, _CORNERS, strict=True):
            np.take(values[:, (dx * high + dy) * wide + dz :], base, axis=1, out=row, mode="clip")
        return out

    def noise(self, seed: int) -> Singles:
        """Return smooth noise in [-1, 1], one number for each point."""
        one: Singles = self.noises([seed])[0]
        return one

    def noises(self, seeds: Sequence[int]) -> Singles:
        """Return ``(S, N)`` noise, the same as `noise` of each seed: many seeds of few points cost about one."""
        values = self._corners(np.array([_start(seed) for seed in seeds], np.uint32))
        for fade in reversed(self._place[1]):
            values = _between(values[0::2], values[1::2], fade)
        spread: Singles = values[0] * np.float32(2) - np.float32(1)
        return spread


_CORNERS = tuple(np.ndindex(2, 2, 2))


def _outer(x: Steps, y: Steps, z: Steps) -> list[Words]:
    return [_multiple(axis, prime) for axis, prime in zip((x, y, z), _PRIMES, strict=True)]


def _between(low: Singles, high: Singles, part: Singles) -> Singles:
    high -= low
    high *= part
    high += low
    return high


@dataclass(frozen=True, eq=False)
class Cells:
    """The cell of a Voronoi mosaic in which each of N points lies."""

    number: Words
    """``(N,)`` hash of the cell."""
    u: Floats
    """``(N,)`` metres along the cell's own first axis."""
    v: Floats
    """``(N,)`` metres along the second."""
    gap: Singles
    """``(N,)`` about twice the distance to the nearest border, metres."""


def _seeds(index: Steps, seed: int) -> Floats:
    """Return the seed point of lattice cells, in lattice units: within 0.2 of the cell's middle on each axis."""
    jitter = [fraction(mix(seed + axis, *index)).astype(np.float64) * 0.4 + 0.3 for axis in range(3)]
    return index.astype(np.float64) + np.stack(jitter)


def _frames(index: Steps, seed: int) -> tuple[Floats, Floats]:
    """Return two tangent unit vectors, turned at random, for lattice cells."""
    normal = _unit(_seeds(index, seed))
    lean = np.stack([fraction(mix(seed + axis, *index)).astype(np.float64) - 0.5 for axis in range(3, 6)])
    first = _unit(_cross(normal, lean))
    return first, _cross(normal, first)


def _cross(a: Floats, b: Floats) -> Floats:
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _unit(vector: Floats) -> Floats:
    return vector / np.sqrt(_dot(vector, vector))


def _dot(a: Floats, b: Floats) -> Floats:
    total: Floats = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return total


def _candidates(place: Floats, seed: int) -> Steps | None:
    """Return the lattice cells ``(3, K)`` whose seeds may be among the two nearest to some point, if they are few."""
    low, high = np.floor(place.min(axis=1)) - 1, np.floor(place.max(axis=1)) + 1
    if np.prod(high - low + 1) > 216:
        return None
    axes = [np.arange(a, b + 1).astype(np.int32) for a, b in zip(low, high, strict=True)]
    index = np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")])
    middle = 0.5 * (place.min(axis=1) + place.max(axis=1))
    span = place.max(axis=1) - place.min(axis=1)
    offset = _seeds(index, seed) - middle[:, None]
    away = np.sqrt(_dot(offset, offset))
    second = np.partition(away, 1)[1]
    return index[:, away <= second + np.sqrt(_dot(span, span)) + 1e-6]


def cells(points: Floats, near: Floats, spacing: float, seed: int) -> Cells:
    """Return the mosaic cells of ``points`` (3, N), chosen by the displaced points ``near``; all in metres.

    Parameters
    ----------
    points, near
        ``(3, N)`` metres from the Earth's centre. Borders curve where ``near`` is ``points`` plus a smooth warp,
        while the cells' own axes stay straight.
    spacing
        Mean width of a cell, metres.
    """
    place = near * (1.0 / spacing)
    found = _candidates(place, seed)
    count = place.shape[1]
    best, second = np.full(count, np.inf), np.full(count, np.inf)
    owner: Steps = np.zeros((3, count), np.int32)
    nearest = np.zeros(count, np.intp)
    own = np.floor(place).astype(np.int32)
    # 27 cells hold the nearest seed: the own one is within 0.7 * sqrt(3) = 1.22, those beyond them at least 1.3 away.
    around = 27 if found is None else found.shape[1]
    fixed = None if found is None else _seeds(found, seed)
    for k in range(around):
        step = np.array([k // 9 - 1, k // 3 % 3 - 1, k % 3 - 1], np.int32)[:, None]
        offset = place - (_seeds(own + step, seed) if fixed is None else fixed[:, k : k + 1])
        away = _dot(offset, offset)
        closer = away < best
        np.minimum(second, np.maximum(best, away), out=second)
        np.minimum(best, away, out=best)
        if found is None:
            owner = np.where(closer, own + step, owner)
        else:
            nearest[closer] = k
    index = owner if found is None else found
    first, other = _frames(index, seed)
    number = mix(seed + 6, *index)
    if found is not None:
        first, other, number = first[:, nearest], other[:, nearest], number[nearest]
    gap = (np.minimum(second - best, 1.0) * spacing).astype(np.float32)
    return Cells(number, _dot(points, first), _dot(points, other), gap)
