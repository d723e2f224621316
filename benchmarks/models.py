"""Each net at its published size with random weights: our calls beside its own forward passes, and peak memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.rows import Row

__all__ = ["run"]

ALONE, BATCHED = 1.02, 1.03
LIMIT_S = 3600


@dataclass(frozen=True)
class Case:
    """A model as it is measured."""

    model: str
    side: int
    """Pixels of a region, at the model's own ground sample distance."""
    many: int = 8
    """Regions of a batch."""
    months: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the row."""
        said = "".join(f" {value}" for value in self.options.values())
        frames = f" x {self.months} frames" if self.months > 1 else ""
        return f"{self.model}{said}, {self.side} px{frames}"


CASES = (
    Case("satmae", 224),
    Case("satmae", 96, options={"variant": "ms_vit_base"}),
    Case("scalemae", 224),
    Case("dofa", 224),
    Case("dofa", 224, options={"variant": "v2_base"}),
    Case("clay", 256, many=4),
    Case("prithvi", 224),
    Case("prithvi", 224, many=4, months=4, options={"n_frames": 4}),
    Case("presto", 32, months=12),
    Case("terrafm", 224),
)


def run(quick: bool) -> Iterator[Row]:
    """Yield for each case the region alone, the batch, and the peak; each in a process of its own."""
    for number, case in enumerate(CASES):
        repetitions = 2 if quick else 5
        arguments = [sys.executable, "-m", "benchmarks.models", str(number), str(repetitions)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if done.returncode:
            raise RuntimeError(f"{case.name}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
        found = json.loads(done.stdout.splitlines()[-1])
        for which, count, target in (("alone", 1, ALONE), ("batched", case.many, BATCHED)):
            whole, inner, best = found[which]
            note = f"{whole / count:.3f} s a region"
            yield Row(f"{case.name}, {count} in a call", whole, "s", inner, target, best, note)
        yield Row(f"{case.name}: peak", found["peak"], "MB", note=f"base with weights {found['base']:.0f} MB")


def _timed(call: Any, repetitions: int) -> tuple[float, float, float]:
    """Median seconds of a call, of its net within it (and what is ours on top), and the ratio of the least."""
    from benchmarks.nets import loaded_net
    from benchmarks.overhead import shares

    call()
    ours, inner = shares(call, loaded_net(), repetitions)
    median = statistics.median(inner)
    return median + statistics.median(ours), median, 1 + min(ours) / min(inner)


def _child(case: Case, repetitions: int) -> dict[str, Any]:
    """Measure one case."""
    from benchmarks.memory import forget_peak, peak, resident
    from benchmarks.paint import Painter, regions
    from rs_embed import TemporalSpec, get_embeddings_batch, register
    from rs_embed.core.registry import get_spec
    from rs_embed.inference.random_weights import with_random_weights

    spec = with_random_weights(get_spec(case.model))
    register(spec, replace=True)
    metres = next(iter(spec.inputs.values())).gsd
    painter = Painter(keep=True)
    span = TemporalSpec.range("2022-01-01", f"2022-{case.months:02d}-28")

    def call(count: int) -> None:
        get_embeddings_batch(
            case.model,
            spatials=regions(count, case.side, metres),
            temporal=span,
            backend=painter,
            device="cpu",
            **case.options,
        )

    call(1)
    forget_peak()
    base = resident()
    found: dict[str, Any] = {"alone": _timed(lambda: call(1), repetitions)}
    found["batched"] = _timed(lambda: call(case.many), max(2, repetitions // 2))
    return found | {"peak": 1000 * (peak() - base), "base": 1000 * base}


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore", UserWarning)
    print(json.dumps(_child(CASES[int(sys.argv[1])], int(sys.argv[2]))))
