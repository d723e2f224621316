"""A folder of rasters without STAC: what sidecar files and file names say of them.

A sidecar is JSON: ``scene.json`` beside ``scene.tif``, or one ``rs_embed.json`` for all rasters in and below its folder
(the nearer one wins, key by key). Its keys, all optional:

=============== ===================================================================================================
``collection``  a sensor, as ``rs_embed.core.sensors`` knows it: ``"sentinel-2-l2a"``
``date``        ISO date or moment (UTC); a list gives one for each band of a file whose bands are dates
``bands``       names in the order of the file's bands
``nodata``      number without meaning (besides the one that the file declares)
``units``       optical: ``"reflectance * 10000"`` (as if not given), ``"reflectance"`` (0–1), ``"dn"`` (Landsat);
                radar, needed: ``"dB"``, ``"linear"``, ``"worldcereal"`` (20 log10(DN) - 83)
``offset``      what to add to a Sentinel-2 DN: ``-1000`` for baselines from 04.00 on that are not corrected
``cloud_cover`` percent
``orbit``       ``"ascending"`` or ``"descending"``
``id``          name of the scene; files of one id and date are one scene
``files``       in ``rs_embed.json``: ``{"name.tif": {…}}``, the same keys for one file
=============== ===================================================================================================

Without it: the date is the first ``20230815`` or ``2023-08-15`` (with ``T100031`` the time) in the name of the file,
else of its folders; bands are the names in the file (descriptions, NetCDF variables), else the one in the file's name
(``_B04``, ``_VV``), else as many as the sensor's ``default_bands``; the sensor is in the name (``S2A_MSIL2A``,
``LC08_L2SP``, …), else any that has such bands; the offset follows the processing baseline in the name (``_N0509_``),
else there is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from rs_embed.core.errors import ProviderError, SpecError
from rs_embed.core.sensors import SENSORS, Sensor, find_sensor
from rs_embed.providers.harmonise import Decoding, baseline_offset, decoding_of_units
from rs_embed.providers.raster import RasterFile, describe

__all__ = ["SIDECAR", "BandSource", "FolderScene", "folder_scenes", "read_json"]

SIDECAR = "rs_embed.json"
_KEYS = {"collection", "date", "bands", "nodata", "units", "offset", "cloud_cover", "orbit", "id"}
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)(-?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?:T?(\d{6}))?(?!\d)")
_SENSORS = (
    (re.compile(r"MSIL2A|(?:^|[_.-])L2A|S2-?L2A|S2[A-D]?_?SR", re.I), "sentinel-2-l2a"),
    (re.compile(r"MSIL1C|(?:^|[_.-])L1C|S2-?L1C", re.I), "sentinel-2-l1c"),
    (re.compile(r"L[CO]0[89]_L2S[PR]", re.I), "landsat-c2-l2"),
    (re.compile(r"(?:^|[_.-])S1[A-D]?(?=[_.-]|$)|S1RTC|S1GRD", re.I), "sentinel-1"),
)
_BASELINE = re.compile(r"_N(\d\d)(\d\d)_")


@dataclass(frozen=True)
class BandSource:
    """Where a band of a scene lies and how its numbers are read."""

    path: str
    index: int
    """Band of the file, from 1."""
    decoding: partial[Decoding]
    """Called when the band is read: unknown units are an error of that band alone."""


@dataclass
class FolderScene:
    """Files of one acquisition."""

    id: str
    time: datetime
    sensor: Sensor
    bands: dict[str, BandSource] = field(default_factory=dict)
    cloud_cover: float | None = None
    orbit: str | None = None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    ProviderError
        If it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ProviderError(f"{path.name} is not readable JSON: {error}") from error


def _sidecar(path: Path, root: Path) -> dict[str, Any]:
    """What sidecars say of a raster; the nearest wins, key by key."""
    said: dict[str, Any] = {}
    folders = [f for f in (path.parent, *path.parent.parents) if f == root or root in f.parents]
    for folder in reversed(folders):
        if (folder / SIDECAR).is_file():
            shared = read_json(folder / SIDECAR)
            own = shared.pop("files", {}) if isinstance(shared, dict) else {}
            relative = path.relative_to(folder).as_posix()
            said |= _checked(shared, SIDECAR) | _checked(own.get(relative, own.get(path.name, {})), SIDECAR)
    beside = path.with_suffix(".json")
    if beside.is_file():
        content = read_json(beside)
        if not isinstance(content, dict) or "assets" not in content:  # a STAC item is no sidecar
            said |= _checked(content, beside.name)
    return said


def _checked(content: Any, name: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ProviderError(f"sidecar {name} must hold an object such as {{'collection': 'sentinel-2-l2a', …}}")
    unknown = sorted(set(content) - _KEYS)
    if unknown:
        raise ProviderError(f"sidecar {name} has unknown key {unknown[0]!r}; it may hold {', '.join(sorted(_KEYS))}")
    return content


def date_in(name: str) -> datetime | None:
    """Return the first date in a name, UTC."""
    for found in _DATE.finditer(name):
        digits = "".join((found[1], found[3], found[4]))
        try:
            return datetime.strptime(digits + (found[5] or "000000"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _moment(value: Any, name: str) -> datetime:
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ProviderError(f"the sidecar of {name} has date {value!r}; write it as 2023-08-15") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def band_in(name: str, sensor: Sensor) -> tuple[str, str] | None:
    """Return the last band that a name holds as a word of its own, and that word."""
    table = sensor.names()
    for word in reversed(re.split(r"[_.\s-]+", name)):
        if word.lower() in table:
            return table[word.lower()], word
    # names with the separator inside, such as SR_B4 and QA_PIXEL
    for alias in sorted(table, key=len, reverse=True):
        if "_" in alias and re.search(rf"(?i)(?:^|[_.\s-]){re.escape(alias)}(?:$|[_.\s-])", name):
            return table[alias], alias
    return None


def _sensors(said: Mapping[str, Any], name: str) -> tuple[Sensor, ...]:
    """The sensor that is declared or in the name; else all."""
    if "collection" in said:
        try:
            return (find_sensor(str(said["collection"])),)
        except SpecError as error:
            raise ProviderError(f"the sidecar of {name}: {error}") from error
    for pattern, sensor in _SENSORS:
        if pattern.search(name):
            return (SENSORS[sensor],)
    return tuple(SENSORS.values())


def netcdf_times(about: RasterFile) -> list[datetime] | None:
    """Return the dates of a variable's bands from its only other dimension, CF ``<unit> since <date>``."""
    extra = about.tags.get("NETCDF_DIM_EXTRA", "").strip("{}")
    values = about.tags.get(f"NETCDF_DIM_{extra}_VALUES", "").strip("{}")
    units = re.match(r"(day|hour|minute|second)s? since (\S+)(?: (\S+))?", about.tags.get(f"{extra}#units", ""))
    if not extra or not values or units is None:
        return None
    start = _moment(f"{units[2]}T{units[3] or '00:00:00'}", about.name)
    return [start + timedelta(**{f"{units[1]}s": float(v)}) for v in values.split(",")]


def folder_scenes(files: list[Path], root: Path) -> tuple[list[FolderScene], list[str]]:
    """Return the scenes that rasters make, and why others make none.

    Parameters
    ----------
    files
        Rasters without a STAC item.
    root
        The folder that was named; sidecars above it do not count.
    """
    scenes: dict[tuple[str, str, datetime], FolderScene] = {}
    why: list[str] = []
    for path in sorted(files):
        said = _sidecar(path, root)
        try:
            about = describe(str(path))
        except ProviderError as error:
            why.append(str(error))
            continue
        parts = [(p, describe(p)) for p in about.subdatasets] or [(str(path), about)]
        relative = path.relative_to(root).with_suffix("").as_posix()
        before = len(scenes), sum(len(s.bands) for s in scenes.values())
        for part, information in parts:
            _add(scenes, part, information, relative, said)
        if before == (len(scenes), sum(len(s.bands) for s in scenes.values())):
            why.append(f"{path.name} tells no {'date' if not _times(said, about, relative) else 'bands'}")
    return list(scenes.values()), why


def _times(said: Mapping[str, Any], about: RasterFile, relative: str) -> list[datetime]:
    """One date, or one for each band of the file."""
    if "date" in said:
        listed = said["date"] if isinstance(said["date"], list) else [said["date"]]
        return [_moment(value, about.name) for value in listed]
    named = date_in(Path(relative).name) or date_in(relative)
    return netcdf_times(about) or ([named] if named else [])


def _add(
    scenes: dict[tuple[str, str, datetime], FolderScene],
    path: str,
    about: RasterFile,
    relative: str,
    said: Mapping[str, Any],
) -> None:
    """Add the bands of a file, or of a variable of it, to the scenes that they belong to."""
    times = _times(said, about, relative)
    variable = about.name.rpartition(":")[2] if ":" in about.name else ""
    for sensor in _sensors(said, f"{relative}/{variable}"):
        for name, word, index, time in _bands_of(about, sensor, said, variable or Path(relative).name, times):
            own = re.sub(rf"(?i)[_.\s-]*{re.escape(word)}(?=$|[_.\s-])", "", relative) if word else relative
            key = (sensor.id, str(said.get("id", own)), time)
            scene = scenes.setdefault(key, FolderScene(_id(key[1], time, times), time, sensor))
            scene.cloud_cover = said.get("cloud_cover", scene.cloud_cover)
            scene.orbit = said.get("orbit", scene.orbit)
            scene.bands.setdefault(name, BandSource(path, index, _decoding(sensor, name, said, about, relative)))


def _id(own: str, time: datetime, times: list[datetime]) -> str:
    name = Path(own).name or own
    return f"{name}_{time.date().isoformat()}" if len(times) > 1 else name


def _decoding(
    sensor: Sensor, name: str, said: Mapping[str, Any], about: RasterFile, relative: str
) -> partial[Decoding]:
    baseline = _BASELINE.search(relative)
    found = baseline_offset(baseline[1]) if baseline and sensor.id.startswith("sentinel-2") else 0.0
    return partial(
        decoding_of_units,
        sensor,
        name,
        said.get("units", "dn" if sensor.id.startswith("landsat") else None),
        nodata=said.get("nodata"),
        offset=float(said.get("offset", found)),
        label=about.name,
    )


def _bands_of(
    about: RasterFile, sensor: Sensor, said: Mapping[str, Any], name: str, times: list[datetime]
) -> Iterator[tuple[str, str, int, datetime]]:
    """(band, the word of the file's name that says so, index in the file, date) of each band that can be told."""
    table = sensor.names()
    if not times:
        return
    found = band_in(name, sensor)
    if len(times) > 1:  # the bands of the file are dates
        listed = [str(b) for b in said.get("bands", ())]
        told = table.get(listed[0].lower()) if len(listed) == 1 else found[0] if found else None
        if told and len(times) == about.count:
            yield from ((told, found[1] if found else "", i + 1, time) for i, time in enumerate(times))
        return
    names = [str(b) for b in said.get("bands", ())] or [d or "" for d in about.descriptions]
    if "bands" in said and len(names) != about.count:
        raise ProviderError(f"the sidecar of {about.name} names {len(names)} bands, but the file has {about.count}")
    known = [table.get(n.lower()) for n in names]
    if any(known):
        yield from ((band, "", i + 1, times[0]) for i, band in enumerate(known) if band)
    elif found and about.count == 1:
        yield found[0], found[1], 1, times[0]
    elif about.count == len(sensor.default_bands):
        yield from ((band, "", i + 1, times[0]) for i, band in enumerate(sensor.default_bands))
