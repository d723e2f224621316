"""What a model needs of this machine: weights, and libraries that an extra brings."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from rs_embed.inference.downloads import at_hand
from rs_embed.inference.setup import Setup

__all__ = ["Needs", "needs_of"]


@dataclass(frozen=True)
class Needs:
    """What is there, and what is not."""

    weights_bytes: int | None
    """To download; ``None``: of unknown size."""
    weights: str
    """In words."""
    torch: Literal["installed", "absent", "not needed"]
    missing: tuple[str, ...]
    """What is lacking, with its remedy."""


def needs_of(setup: Setup, lacking: tuple[str, ...] = ()) -> Needs:
    """Return what a setup needs; nothing is imported, downloaded or hashed.

    Parameters
    ----------
    setup
        The model.
    lacking
        What is already known to be missing.
    """
    checkpoint = setup.variant.checkpoint
    if checkpoint is None:
        return Needs(0, "none: the model has no weights", "not needed", lacking)
    libraries = ["torch"]
    if setup.checkpoint is not None:
        count: int | None = 0
        said = f"a file of your own, {setup.checkpoint.name}"
    elif at_hand(checkpoint) is not None:
        count, said = 0, f"{checkpoint.file} is on this machine"
    else:
        count, said = checkpoint.size, f"{checkpoint.file} has to be downloaded"
        libraries += ["huggingface_hub"] if checkpoint.repository is not None else []
        lacking += (f"weights: {said}; rs-embed pull {setup.spec.name} --variant {setup.variant_name}",)
    if str(setup.checkpoint or checkpoint.file).endswith(".safetensors"):
        libraries.append("safetensors")
    absent = [name for name in libraries if importlib.util.find_spec(name) is None]
    lacking += tuple(f'{name} is not installed: pip install "rs-embed[torch]"' for name in absent)
    return Needs(count, said, "absent" if "torch" in absent else "installed", lacking)
