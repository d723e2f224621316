"""Blocks and formulas that several networks share."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Mlp", "attend", "flexi_kernel", "pair", "sincos"]


def pair(value: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    """Return ``(height, width)`` from one number or from a list or tuple of one or two."""
    if isinstance(value, int):
        return value, value
    if len(value) == 1:
        return int(value[0]), int(value[0])
    if len(value) == 2:
        return int(value[0]), int(value[1])
    raise ValueError(f"expected one number or (height, width), got {value!r}")


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between them.

    Parameters
    ----------
    width : int
        Size D of the input and the output.
    hidden : int
        Size between the two layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` to ``(..., D)``."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, keep: Tensor | None = None) -> Tensor:
    """Multi-head attention of already projected tokens.

    Parameters
    ----------
    q : Tensor
        Queries ``(N, L, D)``.
    k, v : Tensor
        Keys and values ``(N, S, D)``.
    heads : int
        Number of heads, a divisor of D; scale is ``(D / heads) ** -0.5``.
    keep : Tensor, optional
        Boolean ``(N, S)``; keys where it is false are not seen.

    Returns
    -------
    Tensor
        ``(N, L, D)``, heads concatenated, before the output projection.
    """
    q, k, v = (_split(each, heads) for each in (q, k, v))
    mask = None if keep is None else keep[:, None, None, :]  # (N, 1, 1, S)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)  # (N, heads, L, D/heads) -> (N, L, D)


def _split(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)  # (N, L, D) -> (N, heads, L, D/heads)


def sincos(positions: Tensor, frequencies: Tensor) -> Tensor:
    """Sines, then cosines, of each position times each frequency.

    Parameters
    ----------
    positions : Tensor
        ``(...)``.
    frequencies : Tensor
        ``(d/2,)``, radians per unit of position.

    Returns
    -------
    Tensor
        ``(..., d)``.
    """
    angles = positions[..., None] * frequencies  # (..., d/2)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


@lru_cache(maxsize=64)
def _flexi_matrix(base: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Pseudo-inverse ``(size², base²)`` of the image resize, on the CPU in float32."""
    with torch.inference_mode(False), torch.no_grad():
        count = base[0] * base[1]
        basis = torch.eye(count, dtype=torch.float64, device="cpu").view(count, 1, *base)
        resized = F.interpolate(basis, size, mode="bicubic", antialias=True, align_corners=False)
        inverse: Tensor = torch.linalg.pinv(resized.flatten(1))  # of (base², size²)
        return inverse.to(torch.float32)


def flexi_kernel(weight: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize a patch-embedding kernel so that it answers a resized patch as the old kernel did the old patch.

    The least-squares solution by the pseudo-inverse of the bicubic, antialiased resize (FlexiViT, Beyer et al. 2023,
    arXiv 2212.08013, section 3.4).

    Parameters
    ----------
    weight : Tensor
        ``(D, C, p0, q0)``.
    size : int or tuple of int
        Wanted patch, in pixels.

    Returns
    -------
    Tensor
        ``(D, C, p, q)`` of the same dtype and device; ``weight`` itself where the size is already right.
    """
    target = pair(size)
    base = (int(weight.shape[2]), int(weight.shape[3]))
    if target == base:
        return weight
    matrix = _flexi_matrix(base, target).to(weight.device, weight.dtype)
    return (weight.flatten(2) @ matrix.T).reshape(*weight.shape[:2], *target)  # (D, C, p0*q0) -> (D, C, p, q)
