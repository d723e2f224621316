"""Prithvi-EO's encoder: a vision transformer over patches of several frames, told when and where they were taken.

Jakubik et al. 2023, arXiv 2310.18660 (version 1) and Szwarcman et al. 2024, arXiv 2412.02732 (version 2: one function
for both); parameter names, order of the tokens and the constants of the codes as in ``terratorch==1.2.13``,
``prithvi_mae.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rs_embed.nets.layers import Block, frequencies, pair, sincos

__all__ = ["PrithviEncoder", "encoder_state", "position_table"]

Shape = tuple[int, int, int]

_CODES = ("time", "location")


@lru_cache(maxsize=32)
def position_table(shape: Shape, native: tuple[int, int], width: int) -> Tensor:
    """Return the position code of patches in time and space.

    Each sixteenth of the width belongs to one direction: six to the column, six to the row, four to the frame. Other
    grids than the native one are stretched over it: bicubic, the outermost patches on each other.

    Parameters
    ----------
    shape : tuple of int
        Patches in time, rows and columns ``(t, h, w)``.
    native : tuple of int
        Rows and columns of the net's own grid.
    width : int
        Size D of a token, a multiple of 16.

    Returns
    -------
    Tensor
        ``(t * h * w, D)`` float32 on the CPU, frame by frame, row-major.
    """
    rows, columns = native
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        column, row, frame = (
            sincos(torch.arange(count, dtype=torch.float64), frequencies(width // 16 * share, torch.float64))
            for count, share in ((columns, 6), (rows, 6), (shape[0], 4))
        )
        size = (shape[0], rows, columns, -1)
        parts = (column[None, None].expand(size), row[None, :, None].expand(size), frame[:, None, None].expand(size))
        table = torch.cat(parts, dim=-1).float()  # (t, rows, columns, D)
        if native != shape[1:]:
            images = table.permute(0, 3, 1, 2)  # (t, D, rows, columns)
            table = F.interpolate(images, shape[1:], mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        return table.reshape(-1, width)


class CoordinateCode(nn.Module):
    """A learned factor times the sines and cosines of two numbers, half of the width each.

    Everything is float32, the frequencies too: angles are as large as the year, and another order of operations or
    another precision would move them by 1e-4 and more.
    """

    def __init__(self, width: int, *, learned: bool) -> None:
        super().__init__()
        self.width = width
        self.scale: Tensor
        if learned:
            self.scale = nn.Parameter(torch.full((1,), 0.1))
        else:
            self.register_buffer("scale", torch.ones(1))

    def forward(self, pairs: Tensor) -> Tensor:
        """Map ``(..., 2)`` to ``(..., D)`` float32."""
        omega = frequencies(self.width // 2).to(pairs.device)  # of the CPU: powers differ between devices
        return self.scale.float() * sincos(pairs.float(), omega).flatten(-2)  # (..., 2, D/2) -> (..., D)


class PatchEmbed(nn.Module):
    """A convolution over whole patches of frames, rows and columns."""

    def __init__(self, channels: int, width: int, patch: Shape) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, T, H, W)`` to ``(N, D, t, h, w)``; what is less than a patch at the far edges is left out."""
        out: Tensor = self.proj(x)
        return out


class PrithviEncoder(nn.Module):
    """Prithvi's encoder, with the names and the defaults of the authors' ``PrithviViT``.

    Parameters
    ----------
    img_size : int or (int, int)
        Rows and columns of the images for which the position code needs no stretching, pixels.
    patch_size : int or (int, int, int)
        A patch in frames, rows and columns; one number: of one frame and square.
    num_frames : int
        Frames of the training; any other number is taken too.
    in_chans : int
        Bands.
    embed_dim : int
        Size D of a token, a multiple of 16 and of `num_heads`.
    depth, num_heads : int
        Blocks, and heads of each.
    mlp_ratio : float
        Hidden size of a block's MLP is ``int(D * mlp_ratio)``.
    coords_encoding : sequence of str, optional
        ``time``, ``location`` or both: what the net can be told.
    coords_scale_learn : bool
        Whether the factor of these codes is a parameter, or a buffer of one.
    eps : float
        Of all norms.

    Raises
    ------
    ValueError
        If the sizes do not fit each other, or a code is unknown.
    """

    def __init__(
        self,
        img_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = (1, 16, 16),
        num_frames: int = 1,
        in_chans: int = 3,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        coords_encoding: Sequence[str] | None = None,
        coords_scale_learn: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.patch = _patch(patch_size)
        self.embed_dim, self.num_frames = embed_dim, num_frames
        codes = tuple(coords_encoding or ())
        sides = pair(img_size if isinstance(img_size, int) else tuple(img_size))
        self.native = (sides[0] // self.patch[1], sides[1] // self.patch[2])
        if not all(self.native):
            raise ValueError(f"img_size={img_size!r} is below one patch of {self.patch} (frames, rows, columns)")
        if embed_dim % 16:
            raise ValueError(f"embed_dim must be a multiple of 16, got {embed_dim}")
        if unknown := [code for code in codes if code not in _CODES]:
            raise ValueError(f"coords_encoding names {unknown[0]!r}; accepted: {', '.join(map(repr, _CODES))}")
        if "time" in codes and self.patch[0] != 1:
            raise ValueError(f"dates belong to frames, so that a patch has to be one frame, got {self.patch[0]}")
        self.patch_embed = PatchEmbed(in_chans, embed_dim, self.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.temporal_embed_enc = CoordinateCode(embed_dim, learned=coords_scale_learn) if "time" in codes else None
        self.location_embed_enc = CoordinateCode(embed_dim, learned=coords_scale_learn) if "location" in codes else None
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio=mlp_ratio, eps=eps) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=eps)
        nn.init.normal_(self.cls_token, std=0.02)

    def shape(self, x: Tensor) -> Shape:
        """Return the patches ``(t, h, w)`` of pixels ``(N, C, T, H, W)``."""
        t, h, w = (size // p for size, p in zip(x.shape[2:], self.patch, strict=True))
        return t, h, w

    def tokens(self, x: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None) -> Tensor:
        """Return what the first block gets: ``(N, 1 + t * h * w, D)``; arguments as in `forward`."""
        shape = self.shape(x)
        self._check(x, shape, temporal_coords, location_coords)
        patches = self.patch_embed(x).flatten(2).mT  # (N, D, t, h, w) -> (N, t*h*w, D)
        patches = patches + position_table(shape, self.native, self.embed_dim).to(patches)
        if self.temporal_embed_enc is not None and temporal_coords is not None:
            code = self.temporal_embed_enc(temporal_coords)  # (N, T, D): a patch is one frame
            patches = patches + code.to(patches.dtype).repeat_interleave(shape[1] * shape[2], dim=1)
        if self.location_embed_enc is not None and location_coords is not None:
            patches = patches + self.location_embed_enc(location_coords).to(patches.dtype)[:, None]
        return torch.cat((self.cls_token.expand(len(x), -1, -1), patches), dim=1)

    def forward(
        self, x: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> Tensor:
        """Encode all frames of each sample together.

        Parameters
        ----------
        x : Tensor
            Normalised pixels ``(N, C, T, H, W)``.
        temporal_coords : Tensor, optional
            ``(N, T, 2)``: year and day of the year of each frame, as they are; without effect where the net has no
            such code. ``None``: not told, as happened in training too.
        location_coords : Tensor, optional
            ``(N, 2)``: degrees of latitude and longitude, likewise.

        Returns
        -------
        Tensor
            ``(N, 1 + t * h * w, D)`` after the last norm: the class token, then the patches frame by frame, row-major.

        Raises
        ------
        ValueError
            If shapes do not fit each other, or an image is below one patch.
        """
        tokens = self.tokens(x, temporal_coords, location_coords)
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.norm(tokens)
        return out

    def _check(self, x: Tensor, shape: Shape, when: Tensor | None, where: Tensor | None) -> None:
        if not all(shape):
            raise ValueError(f"an image of {tuple(x.shape[2:])} (frames, rows, columns) is below a patch, {self.patch}")
        if when is not None and when.shape != (len(x), x.shape[2], 2):
            raise ValueError(f"temporal_coords must be {(len(x), x.shape[2], 2)}, got {tuple(when.shape)}")
        if where is not None and where.shape != (len(x), 2):
            raise ValueError(f"location_coords must be {(len(x), 2)}, got {tuple(where.shape)}")


def _patch(value: int | Sequence[int]) -> Shape:
    """Frames, rows and columns of a patch."""
    if isinstance(value, int):
        return 1, value, value
    if len(value) != 3:
        raise ValueError(f"patch_size must be one number or (frames, rows, columns), got {value!r}")
    frames, rows, columns = (int(each) for each in value)
    return frames, rows, columns


_UNUSED = ("decoder", "mask_token", "temporal_embed_dec.", "location_embed_dec.")
"""How the names of the decoder begin."""


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's part of a published state dict, under the encoder's names.

    Version 2 has its names under ``encoder.``, version 1 has not, and its old files have ``_timm_module.`` in them. The
    decoder is left out, and so is ``pos_embed``, which the authors' code never reads either: it is computed.

    Parameters
    ----------
    state : mapping
        ``{name: tensor}``.

    Raises
    ------
    ValueError
        If two names become one.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        plain = name.replace("_timm_module.", "")
        if plain.startswith(_UNUSED):
            continue
        plain = plain.removeprefix("encoder.")
        if plain == "pos_embed":
            continue
        if plain in found:
            raise ValueError(f"two tensors are called {plain!r}, with and without the prefix 'encoder.'")
        found[plain] = value
    return found
