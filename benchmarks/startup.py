"""What one waits for before anything happens: import, a model's description, the command's help."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row, side_by_side

__all__ = ["run"]

_DESCRIBE = """
import time, numpy, rs_embed
start = time.perf_counter()
rs_embed.{call}
print(time.perf_counter() - start)
"""


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def run(quick: bool) -> Iterator[Row]:
    """Yield seconds of fresh processes."""
    repetitions = 5 if quick else 15
    for code in ("import rs_embed", "import rs_embed; rs_embed.list_models()"):
        pair = side_by_side(lambda code=code: _python(code), lambda: _python("import numpy"), repetitions)  # type: ignore[misc]
        beyond = statistics.median(pair.measured) - statistics.median(pair.reference)
        least = min(pair.measured) - min(pair.reference)
        note = f"fastest {least:.3f} s; python with numpy {statistics.median(pair.reference):.3f} s"
        note += "; below 0: no numpy was loaded" if beyond < 0 else ""
        yield Row(f"{code}, beyond numpy", beyond, "s", target=0.06, note=note)
    for call in ("describe_model('galileo')", "list_models()"):
        seconds = [float(_python(_DESCRIBE.format(call=call))) for _ in range(repetitions)]
        target = 0.05 if call.startswith("describe") else None
        note = f"fastest {min(seconds):.3f} s; first call of a process that has numpy"
        yield Row(call, statistics.median(seconds), "s", target=target, note=note)
    command = [str(Path(sys.executable).with_name("rs-embed")), "--help"]
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    yield Row("rs-embed --help", statistics.median(seconds), "s", target=0.3, note=f"fastest {min(seconds):.3f} s")
