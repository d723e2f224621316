"""64 regions in one call: beside the bare forward passes of the same batches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.nets import random_checkpoint
from benchmarks.overhead import compare
from benchmarks.paint import SPAN, Painter, regions
from benchmarks.rows import Row
from rs_embed import TemporalSpec, get_embeddings_batch

__all__ = ["run"]

TARGET = 1.05
REGIONS = 64


def run(quick: bool) -> Iterator[Row]:
    """Yield RemoteCLIP ViT-B/32 and Galileo tiny, their windows taken without resampling."""
    repetitions = 2 if quick else 7
    span = TemporalSpec.range(*SPAN)
    with tempfile.TemporaryDirectory() as folder:
        for model, variant, prefix, side in (
            ("remoteclip", "ViT-B-32", "visual.", 224),
            ("galileo", "tiny", "", 64),
        ):
            file = random_checkpoint(Path(folder), model, variant, prefix)

            def call(model: str = model, variant: str = variant, side: int = side, file: str = file) -> None:
                get_embeddings_batch(
                    model,
                    spatials=regions(REGIONS, side),
                    temporal=span,
                    backend=Painter(),
                    variant=variant,
                    checkpoint=file,
                    device="cpu",
                )

            yield from compare(f"{model} {variant}, {REGIONS} regions of {side} px", call, repetitions, TARGET)
