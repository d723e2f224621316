"""How long a model's net takes for a window: a forward pass or two of random pixels through random weights."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from rs_embed.core.imagery import ImageStack
from rs_embed.inference.plan import Block, Plan
from rs_embed.inference.prepare import collate, make_samples
from rs_embed.inference.random_weights import random_encoder
from rs_embed.inference.runtime import Runtime

__all__ = ["LARGEST", "seconds_per_window"]

LARGEST = 150_000_000
"""Weights of the largest net that is tried: it is built within a few seconds."""
_ENOUGH_S = 0.5
"""A pass of one window that takes longer is measure enough."""
_AT_ONCE = 8
"""Windows of the second pass."""
_NEVER = np.datetime64("NaT", "s")


def seconds_per_window(plan: Plan, frames: Mapping[str, int], *, device: str, precision: str) -> float | None:
    """Return the seconds for one window, its preparation included; ``None`` of nets above `LARGEST`.

    Parameters
    ----------
    plan
        A region; its first window is tried.
    frames
        Frames of each input.
    device, precision
        Where and how the net would run.
    """
    if (plan.setup.variant.parameters or 0) > LARGEST:
        return None
    encoder = random_encoder(plan.setup.spec, plan.setup.build())
    if encoder.net is not None:
        encoder.net.to(device)
    runtime = Runtime(encoder, device if encoder.net is not None else "cpu", precision, None, plan.setup.spec)
    first = plan.blocks[0].windows[0]
    block = Block(first.rect, (first,), plan.blocks[0].nbytes)
    stacks = {name: _random_stack(plan, name, block, count) for name, count in frames.items()}
    _pass(runtime, plan, block, stacks, 1)  # what is slow the first time only
    once = _pass(runtime, plan, block, stacks, 1)
    return once if once > _ENOUGH_S else _pass(runtime, plan, block, stacks, _AT_ONCE) / _AT_ONCE


def _pass(runtime: Runtime, plan: Plan, block: Block, stacks: Mapping[str, ImageStack], count: int) -> float:
    """Prepare and encode a window ``count`` times over, as one batch."""
    start = time.perf_counter()
    samples = [sample for _ in range(count) for sample in make_samples(plan, block, stacks)]
    runtime.encode(collate(plan, samples))
    return time.perf_counter() - start


def _random_stack(plan: Plan, name: str, block: Block, frames: int) -> ImageStack:
    """Return random pixels of the sensor's order of magnitude on the block's lattice."""
    part, request = plan.parts(plan.setup.inputs[name], block), plan.requests[name]
    pixels = np.random.default_rng(0).uniform(1, 3000, (frames, len(request.bands), *part.shape)).astype(np.float32)
    first = np.datetime64(request.intervals[0][0].replace(tzinfo=None), "s") if request.intervals else _NEVER
    times = np.array([first + np.timedelta64(day, "D") for day in range(frames)], "datetime64[s]")
    return ImageStack(pixels, np.ones((frames, *part.shape), bool), times, part)
