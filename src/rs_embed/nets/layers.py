"""Blocks and formulas that several networks share."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "Attention",
    "Block",
    "LayerScale",
    "Mlp",
    "PackedAttention",
    "attend",
    "flexi_kernel",
    "frequencies",
    "pair",
    "sincos",
    "sincos_grid",
]


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


class Attention(nn.Module):
    """Self-attention with query, key and value as the rows of one matrix ``qkv``, in that order.

    Parameters
    ----------
    width : int
        Size D of a token.
    heads : int
        Number of heads, a divisor of D.
    qkv_bias : bool
        Whether ``qkv`` has a bias (``proj`` always has one).
    """

    def __init__(self, width: int, heads: int, *, qkv_bias: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"the number of heads must divide the width {width}, got {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Map ``(N, L, D)`` to ``(N, L, D)``; keys where `keep` ``(N, L)`` is false are not seen."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (N, L, 3D) -> 3 x (N, L, D)
        out: Tensor = self.proj(attend(q, k, v, self.heads, keep))
        return out


class PackedAttention(nn.Module):
    """Self-attention with the parameter names of torch's ``MultiheadAttention``.

    Query, key and value are the rows of one matrix, in that order.

    Parameters
    ----------
    width : int
        Size D of a token.
    heads : int
        Number of heads, a divisor of D.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width).div_(width**0.5))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, L, D)`` to ``(N, L, D)``."""
        packed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = packed.chunk(3, dim=-1)  # (N, L, 3D) -> 3 x (N, L, D)
        out: Tensor = self.out_proj(attend(query, key, value, self.heads))
        return out


class LayerScale(nn.Module):
    """A learned factor for each channel, ``gamma``."""

    def __init__(self, width: int, initial: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` to ``(..., D)``."""
        return x * self.gamma


class Block(nn.Module):
    """A pre-norm transformer block, with the parameter names of timm's.

    Parameters
    ----------
    width : int
        Size D of a token.
    heads : int
        Number of heads, a divisor of D.
    mlp_ratio : float
        Hidden size of the MLP is ``int(D * mlp_ratio)``.
    qkv_bias : bool
        Whether the attention's ``qkv`` has a bias.
    eps : float
        Of both norms.
    layer_scale : float, optional
        Initial value of the factors ``ls1.gamma`` and ``ls2.gamma`` on the two branches; ``None``: no such factors.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        eps: float = 1e-6,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, qkv_bias=qkv_bias)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Map ``(N, L, D)`` to ``(N, L, D)``; keys where `keep` ``(N, L)`` is false are not seen."""
        x = x + self.ls1(self.attn(self.norm1(x), keep))
        x = x + self.ls2(self.mlp(self.norm2(x)))
        return x


def frequencies(width: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """Return ``(width // 2,)``: the frequencies ``10000 ** (-2 k / width)`` of a position code of this size."""
    exponents = torch.arange(width // 2, dtype=dtype, device=device) / (width / 2)
    return 1.0 / 10000**exponents


def sincos_grid(rows: int, columns: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return MAE's position code of a grid: the column's sines and cosines, then the row's.

    He et al. 2021, arXiv 2111.06377 (``facebookresearch/mae``, ``util/pos_embed.py``).

    Parameters
    ----------
    rows, columns : int
        Size of the grid, h and w.
    width : int
        Size D, a multiple of 4.
    dtype : torch.dtype
        Of the computation: float64 in MAE's own code, float32 in some that came after it.

    Returns
    -------
    Tensor
        ``(h * w, D)`` float32, row-major.

    Raises
    ------
    ValueError
        If `width` is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"a position code in two directions needs a width that is a multiple of 4, got {width}")
    omega = frequencies(width // 2, dtype)
    x, y = (sincos(torch.arange(n, dtype=dtype), omega) for n in (columns, rows))  # (w, D/2), (h, D/2)
    halves = (x[None].expand(rows, -1, -1), y[:, None].expand(-1, columns, -1))
    return torch.cat(halves, dim=-1).flatten(0, 1).float()  # (h, w, D) -> (h*w, D)


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
