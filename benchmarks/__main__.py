"""Run the measurements: ``python -m benchmarks [NAME…] [--quick] [--out FILE]``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, table

NAMES = (
    "startup",
    "overhead",
    "batch",
    "overlap",
    "convolution",
    "loading",
    "memory",
    "points",
    "remote",
    "cache",
    "products",
    "product_shapes",
    "earth_engine",
    "models",
    "lines",
)


def _machine() -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    versions = {}
    for name in ("numpy", "torch", "rasterio"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"cpu": cpu, "cores": os.cpu_count(), "load": _load(), "python": platform.python_version(), **versions}


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _write(file: Path, machine: dict[str, Any], rows: list[tuple[str, Row]], quick: bool) -> None:
    if file.suffix == ".json":
        whole = {"machine": machine, "quick": quick, "rows": [{"in": name, **row.as_json()} for name, row in rows]}
        text = json.dumps(whole, indent=2)
    else:
        said = ", ".join(f"{k} {v}" for k, v in machine.items()) + (", quick" if quick else "")
        text = f"{said}\n\n{table([row for _, row in rows])}"
    file.write_text(text + "\n", encoding="utf-8")


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; return 1 where a target is missed."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all without one")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, smaller grids")
    parser.add_argument("--out", type=Path, help="write the table (.md) or all numbers (.json) to this file")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in NAMES]:
        parser.error(f"no measurement {unknown[0]!r}; there are {', '.join(NAMES)}")
    warnings.simplefilter("ignore", UserWarning)
    machine = _machine()
    print(", ".join(f"{k} {v}" for k, v in machine.items()), file=sys.stderr)
    rows: list[tuple[str, Row]] = []
    for name in given.names or NAMES:
        start = time.perf_counter()
        for row in importlib.import_module(f"benchmarks.{name}").run(given.quick):
            rows.append((name, row))
            print(f"{name}: {row.name}: {row.measured:.4g} {row.unit}", file=sys.stderr, flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if given.out is not None:  # after each, so that a run that is cut off leaves what it has
            _write(given.out, machine | {"load_after": _load()}, rows, given.quick)
    print(table([row for _, row in rows]))
    return int(any(row.ok is False for _, row in rows))


if __name__ == "__main__":
    sys.exit(main())
