"""A large grid in a process of its own: the peak of its memory above what imports and weights need."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.rows import Row

__all__ = ["forget_peak", "peak", "resident", "run"]

TARGET_GB = 2.0
FULL, QUICK = 4096, 2048
LIMIT_S = 1800


def run(quick: bool) -> Iterator[Row]:
    """Yield rcf and Galileo nano over painted arrays, and rcf over the synthetic landscape (smaller)."""
    side = QUICK if quick else FULL
    cases = [("rcf", "painter", side), ("galileo", "painter", side), ("rcf", "synthetic", side // 4)]
    with tempfile.TemporaryDirectory() as folder:
        for model, backend, pixels in cases:
            file = ""
            if model == "galileo":
                from benchmarks.nets import random_checkpoint

                file = random_checkpoint(Path(folder), "galileo", "nano")
            found = _in_process(model, backend, pixels, file)
            yield _row(f"{model} grid, {pixels} x {pixels} px, {backend}", found, pixels)


def _row(name: str, found: dict[str, Any], pixels: int) -> Row:
    if "error" in found:
        return Row(name, float("inf"), "GB", target=TARGET_GB, note=found["error"])
    note = f"{found['seconds']:.1f} s, base {found['base']:.2f} GB, grid {' x '.join(map(str, found['shape']))}"
    if pixels != FULL:
        note += f" (of {FULL} px: {(FULL / pixels) ** 2:g} times the pixels)"
    return Row(name, found["peak"], "GB", target=TARGET_GB, note=note + found["how"])


def _in_process(model: str, backend: str, pixels: int, file: str) -> dict[str, Any]:
    arguments = [sys.executable, "-m", "benchmarks.memory", model, backend, str(pixels), file]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not finished after {LIMIT_S} s"}
    if done.returncode:
        return {"error": f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def resident() -> float:
    """Return the resident size of this process, GB."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9


def forget_peak() -> bool:
    """Let the peak begin anew (Linux); where that is not allowed, it is that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak() -> float:
    """Return the largest resident size so far, GB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _child(model: str, backend: str, pixels: int, file: str) -> dict[str, Any]:
    """Embed one tile, so that all is imported and loaded; then the grid."""
    from benchmarks.paint import SPAN, Painter, square
    from rs_embed import InputPrepSpec, OutputSpec, TemporalSpec, get_embedding

    options = {"variant": "nano", "checkpoint": file} if file else {}

    def grid(side: int) -> Any:
        return get_embedding(
            model,
            spatial=square(side),
            temporal=TemporalSpec.range(*SPAN),
            output=OutputSpec.grid(),
            backend=Painter() if backend == "painter" else backend,
            input_prep=InputPrepSpec("tile", max_tiles_hard=10**6) if file else None,
            device="cpu",
            **options,
        )

    grid(128)
    exact = forget_peak()
    base = resident()
    start = time.perf_counter()
    found = grid(pixels)
    seconds = time.perf_counter() - start
    how = "" if exact else ", peak of the whole process"
    return {"peak": peak() - base, "base": base, "seconds": seconds, "shape": found.shape, "how": how}


if __name__ == "__main__":
    _model, _backend, _pixels, _file = sys.argv[1:5]
    print(json.dumps(_child(_model, _backend, int(_pixels), _file)))
