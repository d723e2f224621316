"""The certificate of tessera's product: dequantisation of its tiles."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from rs_embed.core.model_spec import Certificate, GoldenCase
from rs_embed.providers.products.tessera import dequantize

__all__ = ["CERTIFICATE"]


def _run(case: GoldenCase) -> dict[str, NDArray[Any]]:
    found = {"dequantized": dequantize(case.inputs["code"], case.inputs["scales"])}
    return {name: found[name] for name in case.outputs}


CERTIFICATE = Certificate(run=_run, cases="product*")
