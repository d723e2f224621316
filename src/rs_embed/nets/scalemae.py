"""Scale-MAE's position code, in ground units, for the plain vision transformer that is the rest of it.

Reed et al. 2023, arXiv 2212.14532, section 3.1; parameter names and the float32 order of operations as in
``bair-climate-initiative/scale-mae@89280d8`` (``mae/util/pos_embed.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rs_embed.nets.layers import frequencies, sincos
from rs_embed.nets.vit import DECODER, encoder_state

__all__ = ["NOT_ENCODER", "clean_state", "ground_code"]

NOT_ENCODER = (*DECODER, "pos_embed", "mask_token_decoder", "pos_emb_projection.*", "fcn*", "fpn*")
"""Names (fnmatch patterns) of a training checkpoint that the encoder does not use; ``pos_embed`` is never read."""

_RSHF = "model."


def ground_code(rows: int, columns: int, width: int, input_res: Tensor) -> Tensor:
    """Return the code of a grid of patches whose coordinates are multiplied by the size of a pixel.

    Parameters
    ----------
    rows, columns : int
        Size of the grid, h and w.
    width : int
        Size D, a multiple of 4: sines and cosines of x, then of y.
    input_res : Tensor
        ``(N,)``: the size of a pixel relative to the reference of 1 m; any dtype, used in float32.

    Returns
    -------
    Tensor
        ``(N, h*w, D)`` float32, row-major.
    """
    if width % 4:
        raise ValueError(f"a position code in two directions needs a width that is a multiple of 4, got {width}")
    device, scale = input_res.device, input_res.float()[:, None]
    omega = frequencies(width // 2, device=device)
    x, y = (sincos(torch.arange(n, device=device).float() * scale, omega) for n in (columns, rows))  # (N, n, D/2)
    halves = (x[:, None].expand(-1, rows, -1, -1), y[:, :, None].expand(-1, -1, columns, -1))
    return torch.cat(halves, dim=-1).flatten(1, 2)  # (N, h, w, D) -> (N, h*w, D)


def clean_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's part of a published state dict: the authors', torchgeo's or rshf's (``model.``)."""
    if all(name.startswith(_RSHF) for name in state):
        state = {name.removeprefix(_RSHF): value for name, value in state.items()}
    return encoder_state(state, NOT_ENCODER)
