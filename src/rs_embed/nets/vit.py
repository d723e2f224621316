"""The plain vision transformer of MAE and its kin: patches, a class token, pre-norm blocks, a last norm.

He et al. 2021, arXiv 2111.06377; parameter names as in timm's ``VisionTransformer`` and ``facebookresearch/mae``. MAE
shuffles its tokens to hide most of them in training; here all are seen, in their true order, which gives the same
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from rs_embed.nets.layers import Block, pair, sincos_grid

__all__ = ["DECODER", "PatchEmbed", "Trunk", "ViT", "as_grid", "encoder_state", "position_parameter", "sides"]

DECODER = ("mask_token", "decoder_*")
"""Names (fnmatch patterns) of MAE's training checkpoints that do not belong to the encoder."""


class PatchEmbed(nn.Module):
    """One convolution, as wide as its stride.

    Parameters
    ----------
    channels : int
        Bands C.
    width : int
        Size D of a token.
    patch : int or pair of int
        Height and width of a patch, pixels.
    """

    def __init__(self, channels: int, width: int, patch: int | tuple[int, int]) -> None:
        super().__init__()
        self.patch = pair(patch)
        self.proj = nn.Conv2d(channels, width, self.patch, stride=self.patch)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, h*w, D)``, row-major."""
        out: Tensor = self.proj(image)
        return out.flatten(2).transpose(1, 2)  # (N, D, h, w) -> (N, h*w, D)


class Trunk(nn.Module):
    """What comes after the patches: the class token, the blocks and the last norm.

    Parameters
    ----------
    embed_dim : int
        Size D of a token.
    depth, num_heads : int
        Blocks, and heads of each.
    mlp_ratio : float
        Hidden size of a block's MLP is ``int(D * mlp_ratio)``.
    qkv_bias : bool
        Whether the attentions' ``qkv`` have a bias.
    norm_eps : float
        Of all norms.

    Attributes
    ----------
    prefix_tokens : int
        Tokens before the patches: 1.
    embed_dim : int
        D.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.prefix_tokens = 1
        self.embed_dim = embed_dim
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, eps=norm_eps) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)

    def run(self, patches: Tensor, first: Tensor | None = None) -> Tensor:
        """Return the last block's output, before the norm.

        Parameters
        ----------
        patches : Tensor
            ``(N, L, D)``, with their position codes.
        first : Tensor, optional
            ``(1, 1, D)``: the class token with its position code; the bare one where absent.

        Returns
        -------
        Tensor
            ``(N, 1 + L, D)``.
        """
        first = self.cls_token if first is None else first
        x = torch.cat((first.to(patches.dtype).expand(len(patches), -1, -1), patches), dim=1)
        for block in self.blocks:
            x = block(x)
        return x


class ViT(Trunk):
    """MAE's encoder of one image.

    Parameters
    ----------
    img_size, patch_size : int or sequence of int
        Height and width in pixels; `img_size` matters only for `stored_positions`.
    in_chans : int
        Bands C.
    stored_positions : bool
        True: ``pos_embed`` ``(1, 1 + h*w, D)`` is a parameter, and begins as MAE's sines and cosines. False: there is
        none, and each call gives its own.
    embed_dim, depth, num_heads, mlp_ratio, qkv_bias, norm_eps
        As `Trunk` takes them.

    Attributes
    ----------
    patch : tuple of int
        Height and width of a patch.
    grid : tuple of int
        Rows h and columns w of patches of an image of `img_size`.
    pos_embed : nn.Parameter or None
        The stored position code.
    """

    def __init__(
        self,
        *,
        img_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = 16,
        in_chans: int = 3,
        stored_positions: bool = True,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__(
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            norm_eps=norm_eps,
        )
        self.patch = sides(patch_size)
        self.patch_embed = PatchEmbed(in_chans, embed_dim, self.patch)
        self.image_size = sides(img_size)
        self.grid = self.grid_of(self.image_size)
        self.pos_embed = position_parameter(self.grid, embed_dim) if stored_positions else None

    def grid_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return rows h and columns w of the patches of an image of ``size`` (height, width)."""
        return size[0] // self.patch[0], size[1] // self.patch[1]

    def encode(self, image: Tensor, position: Tensor | None = None) -> Tensor:
        """Return the last block's output, before the norm; arguments as in `forward`."""
        self._check(image)
        patches = self.patch_embed(image)
        if position is not None:
            return self.run(patches + position.to(patches.dtype))
        if self.pos_embed is None:
            raise ValueError("this net stores no position code: give one with each call")
        stored = self.pos_embed
        return self.run(patches + stored[:, 1:], self.cls_token + stored[:, :1])

    def forward(self, image: Tensor, position: Tensor | None = None) -> Tensor:
        """Return all tokens after the last norm.

        Parameters
        ----------
        image : Tensor
            ``(N, C, H, W)``, normalised.
        position : Tensor, optional
            ``(N, h*w, D)`` or ``(1, h*w, D)``: the patches' code instead of the stored one; the class token then gets
            none. It is cast to the patches' dtype last, so compute it in float32.

        Returns
        -------
        Tensor
            ``(N, 1 + h*w, D)``: the class token, then the patches row-major.

        Raises
        ------
        ValueError
            If the image is of another size than the stored code, or is not made of whole patches.
        """
        out: Tensor = self.norm(self.encode(image, position))
        return out

    def patch_features(self, tokens: Tensor) -> Tensor:
        """Return the patches' tokens ``(N, h*w, D)`` of all tokens ``(N, 1 + h*w, D)``."""
        return tokens[:, self.prefix_tokens :]

    def _check(self, image: Tensor) -> None:
        channels = self.patch_embed.proj.in_channels
        if image.ndim != 4 or image.shape[1] != channels:
            raise ValueError(f"image must be (N, {channels}, H, W), got {tuple(image.shape)}")
        size = (int(image.shape[2]), int(image.shape[3]))
        if self.pos_embed is not None and size != self.image_size:
            raise ValueError(f"image must be of {self.image_size} pixels, got {size}")
        if 0 in size or size[0] % self.patch[0] or size[1] % self.patch[1]:
            raise ValueError(f"image must be made of whole patches of {self.patch} pixels, got {size}")


def sides(value: int | Sequence[int]) -> tuple[int, int]:
    """Return (height, width) of a number, or of a sequence of one or two."""
    return pair(value if isinstance(value, int) else tuple(value))


def position_parameter(grid: tuple[int, int], width: int) -> nn.Parameter:
    """Return a frozen ``(1, 1 + h*w, D)``: zeros for the class token, then `sincos_grid`."""
    table = sincos_grid(*grid, width)
    return nn.Parameter(torch.cat((torch.zeros(1, width), table))[None], requires_grad=False)


def as_grid(patches: Tensor, rows: int, columns: int) -> Tensor:
    """Return patch tokens ``(N, h*w, D)`` without the class token as ``(N, D, h, w)``."""
    return patches.transpose(1, 2).reshape(len(patches), -1, rows, columns)  # (N, h*w, D) -> (N, D, h, w)


def encoder_state(state: Mapping[str, Tensor], ignored: Sequence[str] = DECODER) -> dict[str, Tensor]:
    """Return the encoder's part of a training checkpoint's state dict.

    Parameters
    ----------
    state : mapping
        ``{name: tensor}``.
    ignored : sequence of str
        Names (fnmatch patterns) that are left out.

    Returns
    -------
    dict
        What is left, under the same names.
    """
    return {name: value for name, value in state.items() if not any(fnmatchcase(name, each) for each in ignored)}
