"""TerraFM's encoder: a vision transformer with a stem for each product of Sentinel-2 and one for Sentinel-1.

Danish et al. 2025, arXiv 2506.06281; parameter names, position code and epsilons as in
``mbzuai-oryx/TerraFM@e186ad85``, ``terrafm.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rs_embed.nets.layers import Block

__all__ = ["STEMS", "TerraFMEncoder"]

STEMS: Mapping[str, int] = {"s2_l2a": 12, "s2_l1c": 12, "s1": 2}
"""Bands of each stem."""

_WIDER = 3  # a stem's width over the transformer's


class Projection(nn.Module):
    """From the stems' width to the transformer's: three linear layers, a norm after the first, nothing else between."""

    def __init__(self, wide: int, width: int) -> None:
        super().__init__()
        self.proj1 = nn.Linear(wide, wide, bias=False)
        self.norm_input = nn.LayerNorm(wide, eps=1e-5)  # torch's own, unlike the blocks'
        self.proj2 = nn.Linear(wide, wide)
        self.proj3 = nn.Linear(wide, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., wide)`` to ``(..., D)``."""
        out: Tensor = self.proj3(self.proj2(self.norm_input(self.proj1(x))))
        return out


class PatchEmbed(nn.Module):
    """A convolution over whole patches and a learned vector for each of `STEMS`, then one projection for all."""

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        wide = _WIDER * width
        for stem, bands in STEMS.items():
            setattr(self, f"conv2d_{stem}", nn.Conv2d(bands, wide, patch_size, stride=patch_size))
            setattr(self, f"{stem}_embed", nn.Parameter(torch.zeros(1, wide)))
        self.projection = Projection(wide, width)

    def forward(self, x: Tensor, stem: str) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, h * w, D)``; what is less than a patch at the far edges is left out."""
        patches = getattr(self, f"conv2d_{stem}")(x).flatten(2).mT  # (N, wide, h, w) -> (N, h*w, wide)
        out: Tensor = self.projection(patches + getattr(self, f"{stem}_embed"))
        return out


class TerraFMEncoder(nn.Module):
    """TerraFM's encoder, with the names and the defaults of the authors' ``TerraFM``.

    Parameters
    ----------
    img_size : sequence of int
        Side of the images for which the position table is made, pixels; only the first number counts.
    patch_size : int
        Side of a patch, pixels.
    embed_dim : int
        Size D of a token, a multiple of `num_heads`.
    depth, num_heads : int
        Blocks, and heads of each.
    mlp_ratio : float
        Hidden size of a block's MLP is ``int(D * mlp_ratio)``.
    qkv_bias : bool
        Whether queries, keys and values have a bias.
    eps : float
        Of the blocks' norms and the last one.

    Raises
    ------
    ValueError
        If the sizes do not fit each other.
    """

    def __init__(
        self,
        img_size: int | Sequence[int] = (224,),
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.side = (img_size if isinstance(img_size, int) else img_size[0]) // patch_size
        if not self.side:
            raise ValueError(f"img_size={img_size!r} is below one patch of {patch_size} pixels")
        self.patch_embed = PatchEmbed(embed_dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, embed_dim))
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, eps=eps) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=eps)
        for table in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(table, std=0.02)

    def grid(self, x: Tensor) -> tuple[int, int]:
        """Return the patches ``(h, w)`` of pixels ``(N, C, H, W)``."""
        return x.shape[2] // self.patch_size, x.shape[3] // self.patch_size

    def positions(self, height: int, width: int) -> Tensor:
        """Return the position table ``(1, 1 + h * w, D)`` for an image of so many pixels.

        As DINO does it: the table as it stands for a square image of as many patches; else resized, bicubic, by a
        factor that a tenth of a patch is added to, which also shifts where it is sampled.
        """
        rows, columns = height // self.patch_size, width // self.patch_size
        if rows * columns == self.side**2 and height == width:
            return self.pos_embed
        table = self.pos_embed[:, 1:].float().reshape(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        factors = ((rows + 0.1) / self.side, (columns + 0.1) / self.side)
        resized = F.interpolate(table, scale_factor=factors, mode="bicubic")  # (1, D, side, side) -> (1, D, h, w)
        return torch.cat((self.pos_embed[:, :1], resized.flatten(2).mT.to(self.pos_embed.dtype)), dim=1)

    def tokens(self, x: Tensor, stem: str) -> Tensor:
        """Return what the first block gets: ``(N, 1 + h * w, D)``; arguments as in `forward`."""
        if stem not in STEMS:
            raise ValueError(f"stem={stem!r} is none of {', '.join(map(repr, STEMS))}")
        if x.ndim != 4 or x.shape[1] != STEMS[stem]:
            raise ValueError(f"the stem {stem} takes (N, {STEMS[stem]}, H, W), got {tuple(x.shape)}")
        if not all(self.grid(x)):
            raise ValueError(f"an image of {tuple(x.shape[2:])} pixels is below one patch of {self.patch_size}")
        patches = self.patch_embed(x, stem)
        tokens = torch.cat((self.cls_token.expand(len(x), -1, -1), patches), dim=1)
        return tokens + self.positions(*x.shape[2:])

    def forward(self, x: Tensor, stem: str) -> Tensor:
        """Encode images of one product.

        Parameters
        ----------
        x : Tensor
            Pixels ``(N, C, H, W)``.
        stem : str
            One of `STEMS`. The authors' own ``forward`` never tells the two products of Sentinel-2 apart and takes
            ``s2_l1c`` for both, although the weights of ``s2_l2a`` were trained and published.

        Returns
        -------
        Tensor
            ``(N, 1 + h * w, D)`` after the last norm: the class token, then the patches, row-major.

        Raises
        ------
        ValueError
            If the stem is unknown, or has another number of bands, or an image is below one patch.
        """
        tokens = self.tokens(x, stem)
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.norm(tokens)
        return out
