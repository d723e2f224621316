"""Galileo's encoder: tokens of many sensors, in space and time, through one transformer.

Tseng et al. 2025, "Galileo: Learning Global & Local Features of Many Remote Sensing Modalities", arXiv 2502.09356;
parameter names, order of the tokens and the constants of the encodings as in ``nasaharvest/galileo@0f0b5b95``.

Four kinds of input, each split into groups of bands; a group gives one token per place and time step that it has:

=======  ====================  ===================  ==========================================
kind     values                hidden               groups
=======  ====================  ===================  ==========================================
``s_t``  ``(B, H, W, T, 13)``  ``(B, H, W, T, 7)``  `SPACE_TIME`: sensors and NDVI
``sp``   ``(B, H, W, 16)``     ``(B, H, W, 3)``     `SPACE`: relief and land cover
``t``    ``(B, T, 6)``         ``(B, T, 3)``        `TIME`: weather, night lights
``st``   ``(B, 18)``           ``(B, 4)``           `STATIC`: population, location, land cover
=======  ====================  ===================  ==========================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rs_embed.nets.layers import Mlp, attend, flexi_kernel, sincos

__all__ = [
    "SPACE",
    "SPACE_TIME",
    "STATIC",
    "TIME",
    "EncoderInput",
    "GalileoEncoder",
    "Tokens",
    "average_tokens",
    "clean_state",
    "patch_tokens",
    "sensor_input",
    "visible_groups",
]

SPACE_TIME: Mapping[str, tuple[int, ...]] = {
    "S1": (0, 1),
    "S2_RGB": (2, 3, 4),
    "S2_Red_Edge": (5, 6, 7),
    "S2_NIR_10m": (8,),
    "S2_NIR_20m": (9,),
    "S2_SWIR": (10, 11),
    "NDVI": (12,),
}
"""Channels of each group of ``s_t_x``: VV, VH, B2, B3, B4, B5, B6, B7, B8, B8A, B11, B12, NDVI."""

SPACE: Mapping[str, tuple[int, ...]] = {"SRTM": (0, 1), "DW": tuple(range(2, 11)), "WC": tuple(range(11, 16))}
"""Channels of each group of ``sp_x``: elevation, slope, nine DynamicWorld classes, five WorldCereal layers."""

TIME: Mapping[str, tuple[int, ...]] = {"ERA5": (0, 1), "TC": (2, 3, 4), "VIIRS": (5,)}
"""Channels of each group of ``t_x``: temperature, precipitation, deficit, soil, evapotranspiration, night lights."""

STATIC: Mapping[str, tuple[int, ...]] = {
    "LS": (0,),
    "location": (1, 2, 3),
    "DW_static": tuple(range(4, 13)),
    "WC_static": tuple(range(13, 18)),
}
"""Channels of each group of ``st_x``: LandScan, unit vector of the place, DynamicWorld, WorldCereal."""

_BASE_RESOLUTION_M = 10
_WRAPPER_MONTH = 6  # July: GalileoWrapper's month where none is given
_S2_OF_13 = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12)  # B2..B8, B8A, B11, B12 of B1..B8, B8A, B9, B10, B11, B12


class Tokens(NamedTuple):
    """What the encoder returns: tokens after the last norm, and which of them were hidden.

    A hidden token is the last norm of zero, that is ``norm.bias``.
    """

    s_t: Tensor
    """Space-time tokens ``(B, h, w, T, 7, D)``."""
    sp: Tensor
    """Space tokens ``(B, h, w, 3, D)``."""
    t: Tensor
    """Time tokens ``(B, T, 3, D)``."""
    st: Tensor
    """Static tokens ``(B, 4, D)``."""
    s_t_m: Tensor
    """True where hidden, ``(B, h, w, T, 7)``."""
    sp_m: Tensor
    """True where hidden, ``(B, h, w, 3)``."""
    t_m: Tensor
    """True where hidden, ``(B, T, 3)``."""
    st_m: Tensor
    """True where hidden, ``(B, 4)``."""


class EncoderInput(NamedTuple):
    """The positional arguments of `GalileoEncoder.forward`, with their shapes."""

    s_t_x: Tensor
    """``(B, H, W, T, 13)``."""
    sp_x: Tensor
    """``(B, H, W, 16)``."""
    t_x: Tensor
    """``(B, T, 6)``."""
    st_x: Tensor
    """``(B, 18)``."""
    s_t_m: Tensor
    """``(B, H, W, T, 7)``."""
    sp_m: Tensor
    """``(B, H, W, 3)``."""
    t_m: Tensor
    """``(B, T, 3)``."""
    st_m: Tensor
    """``(B, 4)``."""
    months: Tensor
    """``(B, T)``."""


def position_table(positions: Tensor, width: int) -> Tensor:
    """Return sines and cosines ``(..., width)`` of positions ``(...)``, in float32.

    The frequencies are ``10000 ** -(i / (2 width))`` for i in [0, width / 2): the authors' exponent, four times
    smaller than the usual ``i / (width / 2)``.
    """
    exponents = torch.arange(width // 2, device=positions.device) / width / 2.0
    return sincos(positions.float(), 1.0 / 10000**exponents)


def month_table(width: int) -> Tensor:
    """Return ``(12, width)``: the sine of the month's angle, repeated, then its cosine, repeated; January is 0."""
    angles = torch.arange(12) * (2 * math.pi / 12)
    return torch.cat((angles.sin()[:, None].expand(12, width // 2), angles.cos()[:, None].expand(12, width // 2)), 1)


def space_table(side: int, step: float, width: int, device: torch.device) -> Tensor:
    """Return ``(side, side, width)``: the column's encoding, then the row's, of patches `step` apart."""
    axis = position_table(torch.arange(side, device=device) * step, width // 2)  # (side, width/2)
    columns = axis[None, :, :].expand(side, side, -1)
    rows = axis[:, None, :].expand(side, side, -1)
    return torch.cat((columns, rows), dim=-1)


class PatchEmbed(nn.Module):
    """A convolution over whole patches, whose kernel is resized to the wanted patch."""

    def __init__(self, channels: int, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch_size, stride=patch_size)

    def forward(self, x: Tensor, patch_size: int) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, D, H / patch_size, W / patch_size)``."""
        return F.conv2d(x, flexi_kernel(self.proj.weight, patch_size), self.proj.bias, stride=patch_size)


class Attention(nn.Module):
    """Self-attention with separate projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Map ``(B, L, D)`` to ``(B, L, D)``; keys where `keep` ``(B, L)`` is false are not seen."""
        out: Tensor = self.proj(attend(self.q(x), self.k(x), self.v(x), self.heads, keep))
        return out


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Map ``(B, L, D)`` to ``(B, L, D)``."""
        x = x + self.attn(self.norm1(x), keep)
        x = x + self.mlp(self.norm2(x))
        return x


class GalileoEncoder(nn.Module):
    """Galileo's encoder.

    Parameters
    ----------
    embedding_size : int
        Size D of a token, a multiple of 16 and of `num_heads`.
    depth, num_heads : int
        Blocks, and heads of each.
    mlp_ratio : float
        Hidden size of a block's MLP is ``int(D * mlp_ratio)``.
    max_sequence_length : int
        Longest time series.
    max_patch_size : int
        Side of the patch-embedding kernels in pixels.
    freeze_projections : bool
        The projections of the inputs are not trained.
    drop_path : float
        Only means something in the authors' training; without effect here.
    """

    def __init__(
        self,
        embedding_size: int = 128,
        depth: int = 2,
        num_heads: int = 8,
        mlp_ratio: float = 2,
        max_sequence_length: int = 24,
        max_patch_size: int = 8,
        freeze_projections: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if embedding_size % 16 or embedding_size % num_heads:
            raise ValueError(f"embedding_size must be a multiple of 16 and of num_heads={num_heads}: {embedding_size}")
        width, quarter = embedding_size, embedding_size // 4
        self.embedding_size, self.max_sequence_length, self.drop_path = width, max_sequence_length, drop_path
        self.pos_embed = nn.Parameter(position_table(torch.arange(max_sequence_length), quarter), requires_grad=False)
        self.month_embed = nn.Embedding(12, quarter)
        self.month_embed.weight = nn.Parameter(month_table(quarter), requires_grad=False)
        self.s_t_channel_embed = nn.Parameter(torch.zeros(len(SPACE_TIME), quarter))
        self.sp_channel_embed = nn.Parameter(torch.zeros(len(SPACE), quarter))
        self.t_channel_embed = nn.Parameter(torch.zeros(len(TIME), quarter))
        self.st_channel_embed = nn.Parameter(torch.zeros(len(STATIC), quarter))
        self.space_time_embed = _patch_embeds(SPACE_TIME, width, max_patch_size)
        self.space_embed = _patch_embeds(SPACE, width, max_patch_size)
        self.time_embed = nn.ModuleDict({name: nn.Linear(len(bands), width) for name, bands in TIME.items()})
        self.static_embed = nn.ModuleDict({name: nn.Linear(len(bands), width) for name, bands in STATIC.items()})
        if freeze_projections:
            for embed in (self.space_time_embed, self.space_embed, self.time_embed, self.static_embed):
                embed.requires_grad_(False)
        self.blocks = nn.ModuleList(Block(width, num_heads, int(width * mlp_ratio)) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(
        self,
        s_t_x: Tensor,
        sp_x: Tensor,
        t_x: Tensor,
        st_x: Tensor,
        s_t_m: Tensor,
        sp_m: Tensor,
        t_m: Tensor,
        st_m: Tensor,
        months: Tensor,
        *,
        patch_size: int,
        input_resolution_m: float = _BASE_RESOLUTION_M,
    ) -> Tokens:
        """Encode all visible tokens of each sample together.

        Parameters
        ----------
        s_t_x, sp_x, t_x, st_x : Tensor
            Normalised values ``(B, H, W, T, 13)``, ``(B, H, W, 16)``, ``(B, T, 6)``, ``(B, 18)``; H = W. What is
            hidden may hold anything, NaN too.
        s_t_m, sp_m, t_m, st_m : Tensor
            ``(B, H, W, T, 7)``, ``(B, H, W, 3)``, ``(B, T, 3)``, ``(B, 4)``; values below 1 are visible, all others
            hidden. The upper left pixel speaks for its patch.
        months : Tensor
            ``(B, T)`` of int64, January is 0.
        patch_size : int
            Side of a patch in pixels, a divisor of H.
        input_resolution_m : float
            Size of a pixel in metres.

        Returns
        -------
        Tokens
            Tokens after the last norm, and which are hidden; h = w = H / patch_size.

        Raises
        ------
        ValueError
            If shapes do not fit each other, H or T or the patch is not allowed, or a sample is hidden altogether.
        """
        values = EncoderInput(s_t_x, sp_x, t_x, st_x, s_t_m, sp_m, t_m, st_m, months)
        _check(values, patch_size, self.max_sequence_length)
        shown = (s_t_m[:, ::patch_size, ::patch_size] < 1, sp_m[:, ::patch_size, ::patch_size] < 1, t_m < 1, st_m < 1)
        groups = [_seen(kind) for kind in shown]
        side = s_t_x.shape[1] // patch_size
        time, month, space = self._encodings(months, side, input_resolution_m * patch_size / _BASE_RESOLUTION_M)
        parts = (
            self._space_time(s_t_x, groups[0], patch_size, time, month, space),
            self._space(sp_x, groups[1], patch_size, space),
            self._time(t_x, groups[2], time, month),
            self._static(st_x, groups[3]),
        )
        visible = [kind[..., seen] for kind, seen in zip(shown, groups, strict=True)]
        x = torch.cat([part.flatten(1, -2) for part in parts], dim=1)  # each (B, ..., g, D) -> (B, N, D)
        x = self._encode(x, torch.cat([kind.flatten(1) for kind in visible], dim=1))
        pieces = torch.split(x, [kind[0].numel() for kind in visible], dim=1)
        tokens = [self._spread(*each) for each in zip(pieces, shown, groups, strict=True)]
        return Tokens(*tokens, *(~kind for kind in shown))

    def _encodings(self, months: Tensor, side: int, step: float) -> tuple[Tensor, Tensor, Tensor]:
        """Time index ``(T, D/4)``, month ``(B, T, D/4)`` and place ``(side, side, D/4)``."""
        month: Tensor = self.month_embed(months)
        space = space_table(side, step, self.embedding_size // 4, months.device).to(self.pos_embed.dtype)
        return self.pos_embed[: months.shape[1]], month, space

    def _space_time(
        self, x: Tensor, seen: list[int], patch_size: int, time: Tensor, month: Tensor, space: Tensor
    ) -> Tensor:
        """Tokens ``(B, h, w, T, g, D)`` of the groups `seen`."""
        images = x.permute(0, 3, 4, 1, 2).flatten(0, 1)  # (B, H, W, T, C) -> (B*T, C, H, W)
        tokens = _project(self.space_time_embed, SPACE_TIME, seen, images, patch_size)  # (B*T, h, w, g, D)
        tokens = tokens.reshape(x.shape[0], x.shape[3], *tokens.shape[1:])  # (B*T, h, w, g, D) -> (B, T, h, w, g, D)
        tokens = tokens.permute(0, 2, 3, 1, 4, 5)  # (B, h, w, T, g, D)
        channel = self.s_t_channel_embed[seen]  # (g, D/4)
        place = space[None, :, :, None, None]  # (1, h, w, 1, 1, D/4)
        return tokens + _quarters(tokens, channel, time[:, None], month[:, None, None, :, None], place)

    def _space(self, x: Tensor, seen: list[int], patch_size: int, space: Tensor) -> Tensor:
        """Tokens ``(B, h, w, g, D)`` of the groups `seen`."""
        images = x.permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
        tokens = _project(self.space_embed, SPACE, seen, images, patch_size)
        return tokens + _quarters(tokens, self.sp_channel_embed[seen], None, None, space[:, :, None])

    def _time(self, x: Tensor, seen: list[int], time: Tensor, month: Tensor) -> Tensor:
        """Tokens ``(B, T, g, D)`` of the groups `seen`."""
        tokens = _linear(self.time_embed, TIME, seen, x, self.embedding_size)
        return tokens + _quarters(tokens, self.t_channel_embed[seen], time[:, None], month[:, :, None], None)

    def _static(self, x: Tensor, seen: list[int]) -> Tensor:
        """Tokens ``(B, g, D)`` of the groups `seen`."""
        tokens = _linear(self.static_embed, STATIC, seen, x, self.embedding_size)
        return tokens + _quarters(tokens, self.st_channel_embed[seen], None, None, None)

    def _encode(self, x: Tensor, visible: Tensor) -> Tensor:
        """Run the blocks over the visible ones of the tokens ``(B, N, D)`` and norm; hidden ones become norm.bias."""
        lengths = visible.sum(dim=1)
        longest, shortest = int(lengths.max()), int(lengths.min())
        if shortest == 0:
            raise ValueError(f"every token of sample {int(lengths.argmin())} is hidden, there is nothing to encode")
        order = (~visible).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]  # (B, L), visible ones first
        index = order[:, :, None].expand(-1, -1, x.shape[2])  # (B, L, D)
        kept = x.gather(1, index)
        keep = None
        if shortest < longest:
            keep = visible.gather(1, order)  # (B, L): false where a shorter sample is padded
            kept = kept.masked_fill(~keep[:, :, None], 0)
        for block in self.blocks:
            kept = block(kept, keep)
        kept = self.norm(kept)
        blank = self.norm.bias.to(kept.dtype)
        if keep is not None:
            kept = torch.where(keep[:, :, None], kept, blank)
        return blank.expand_as(x).scatter(1, index, kept)

    def _spread(self, x: Tensor, shown: Tensor, seen: list[int]) -> Tensor:
        """Put tokens ``(B, n, D)`` of the groups `seen` back among all groups: ``(B, ..., G, D)``."""
        out = self.norm.bias.to(x.dtype).expand(*shown.shape, -1).clone()
        out[..., seen, :] = x.reshape(*shown.shape[:-1], len(seen), x.shape[2])  # (B, n, D) -> (B, ..., g, D)
        return out


def _patch_embeds(groups: Mapping[str, tuple[int, ...]], width: int, patch_size: int) -> nn.ModuleDict:
    return nn.ModuleDict({name: PatchEmbed(len(bands), width, patch_size) for name, bands in groups.items()})


def _seen(visible: Tensor) -> list[int]:
    """The groups (last axis) that are visible somewhere."""
    found: list[int] = visible.flatten(0, -2).any(dim=0).nonzero()[:, 0].tolist()
    return found


def _project(
    embeds: nn.ModuleDict, groups: Mapping[str, tuple[int, ...]], seen: list[int], images: Tensor, patch_size: int
) -> Tensor:
    """Patch tokens ``(N, h, w, g, D)`` of the groups `seen` in images ``(N, C, H, W)``."""
    names = list(groups)
    tokens = [embeds[names[i]](images[:, list(groups[names[i]])], patch_size) for i in seen]  # each (N, D, h, w)
    if tokens:
        return torch.stack(tokens, dim=1).permute(0, 3, 4, 1, 2)  # (N, g, D, h, w) -> (N, h, w, g, D)
    width = next(embeds.parameters()).shape[0]
    return images.new_zeros(len(images), images.shape[2] // patch_size, images.shape[3] // patch_size, 0, width)


def _linear(
    embeds: nn.ModuleDict, groups: Mapping[str, tuple[int, ...]], seen: list[int], x: Tensor, width: int
) -> Tensor:
    """Tokens ``(..., g, D)`` of the groups `seen` in values ``(..., C)``."""
    names = list(groups)
    tokens = [embeds[names[i]](x[..., list(groups[names[i]])]) for i in seen]  # each (..., D)
    return torch.stack(tokens, dim=-2) if tokens else x.new_zeros(*x.shape[:-1], 0, width)


def _quarters(
    tokens: Tensor, channel: Tensor, time: Tensor | None, month: Tensor | None, space: Tensor | None
) -> Tensor:
    """The encodings, each a quarter of D and zero where there is none, as one tensor of the tokens' shape."""
    shape = (*tokens.shape[:-1], tokens.shape[-1] // 4)
    zero = channel.new_zeros(())
    parts = (zero if part is None else part for part in (channel, time, month, space))
    return torch.cat([part.expand(shape) for part in parts], dim=-1)


def _check(given: EncoderInput, patch_size: int, max_sequence_length: int) -> None:
    if given.s_t_x.ndim != 5:
        raise ValueError(f"s_t_x must be (B, H, W, T, 13), got {tuple(given.s_t_x.shape)}")
    B, H, W, T = given.s_t_x.shape[:4]
    wanted = (
        *((B, H, W, T, 13), (B, H, W, 16), (B, T, 6), (B, 18)),
        *((B, H, W, T, 7), (B, H, W, 3), (B, T, 3), (B, 4), (B, T)),
    )
    for name, value, shape in zip(EncoderInput._fields, given, wanted, strict=True):
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} must be {shape} beside s_t_x {tuple(given.s_t_x.shape)}: {tuple(value.shape)}")
    if H != W:
        raise ValueError(f"Galileo's space encoding needs a square, got {H} x {W} pixels")
    if patch_size < 1 or H % patch_size:
        raise ValueError(f"patch_size must divide the side of {H} pixels, got {patch_size}")
    if not 1 <= T <= max_sequence_length:
        raise ValueError(f"1 to {max_sequence_length} time steps are possible, got {T}")


def _total(tokens: Tensor, hidden: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Sum of the visible tokens over `dims` (of `hidden`'s axes), and their number ``(..., 1)``."""
    kept = tokens.masked_fill(hidden[..., None], 0)
    return kept.sum(dim=dims), (~hidden).sum(dim=dims)[..., None].to(tokens.dtype)


def average_tokens(tokens: Tokens) -> Tensor:
    """Return the mean of each sample's visible tokens, of all kinds, times and patches.

    The authors' frozen feature for k-NN and linear probes.

    Parameters
    ----------
    tokens : Tokens
        What the encoder returned.

    Returns
    -------
    Tensor
        ``(B, D)``.
    """
    totals = (
        _total(tokens.s_t, tokens.s_t_m, (1, 2, 3, 4)),
        _total(tokens.sp, tokens.sp_m, (1, 2, 3)),
        _total(tokens.t, tokens.t_m, (1, 2)),
        _total(tokens.st, tokens.st_m, (1,)),
    )
    return torch.stack([sums for sums, _ in totals]).sum(0) / torch.stack([counts for _, counts in totals]).sum(0)


def patch_tokens(tokens: Tokens, *, shared: bool = False) -> Tensor:
    """Return the mean of each patch's visible tokens over times and groups.

    Parameters
    ----------
    tokens : Tokens
        What the encoder returned.
    shared : bool
        False: space-time tokens alone, as the authors' feature for segmentation (``GalileoWrapper(do_pool=False)``,
        where one sensor is given). True: the patch's space tokens too, and all time and static tokens with every
        patch (``apply_mask_and_average_tokens_per_patch``). With nothing but sensors given the two are the same.

    Returns
    -------
    Tensor
        ``(B, h, w, D)``; NaN where a patch has no visible token.
    """
    sums, counts = _total(tokens.s_t, tokens.s_t_m, (3, 4))
    if not shared:
        return sums / counts
    patch = _total(tokens.sp, tokens.sp_m, (3,))
    time, static = _total(tokens.t, tokens.t_m, (1, 2)), _total(tokens.st, tokens.st_m, (1,))
    sums = sums + patch[0] + (time[0] + static[0])[:, None, None]  # (B, D) -> (B, 1, 1, D)
    counts = counts + patch[1] + (time[1] + static[1])[:, None, None]
    return sums / counts


def visible_groups(tokens: Tensor, hidden: Tensor) -> Tensor:
    """Return the tokens of those groups alone that are visible somewhere in the batch.

    Parameters
    ----------
    tokens : Tensor
        ``(B, ..., G, D)``, a field of `Tokens`.
    hidden : Tensor
        ``(B, ..., G)``, its mask.

    Returns
    -------
    Tensor
        ``(B, ..., g, D)``, groups in their order.
    """
    return tokens[..., _seen(~hidden), :]


def sensor_input(*, s1: Tensor | None = None, s2: Tensor | None = None, months: Tensor | None = None) -> EncoderInput:
    """Return the encoder's arguments where nothing but Sentinel-1, Sentinel-2 or both are given.

    All else is hidden, NDVI too, as in the authors' ``GalileoWrapper`` (which takes one sensor).

    Parameters
    ----------
    s1 : Tensor, optional
        Normalised VV, VH: ``(B, H, W, T, 2)``, or ``(B, H, W, 2)`` for one time.
    s2 : Tensor, optional
        Normalised B2..B8, B8A, B11, B12: ``(B, H, W, T, 10)``, or all 13 bands of L1C in their order
        (B1..B8, B8A, B9, B10, B11, B12), of which these ten are taken; or without T for one time.
    months : Tensor, optional
        ``(B, T)`` of int64, January is 0; July where absent.

    Returns
    -------
    EncoderInput
        The encoder's positional arguments.

    Raises
    ------
    ValueError
        If no sensor is given, both differ in shape, or the number of bands is another.
    """
    s1, s2 = (x if x is None or x.ndim == 5 else x.unsqueeze(3) for x in (s1, s2))  # (B, H, W, C): T = 1
    if s2 is not None and s2.shape[-1] == 13:
        s2 = s2[..., list(_S2_OF_13)]
    given = [x for x in (s1, s2) if x is not None]
    if not given or any(x.ndim != 5 or x.shape[:4] != given[0].shape[:4] for x in given):
        raise ValueError(f"s1 and s2 must be (B, H, W, T, bands) or one absent: {[tuple(x.shape) for x in given]}")
    if (s1 is not None and s1.shape[-1] != 2) or (s2 is not None and s2.shape[-1] != 10):
        raise ValueError(f"s1 has 2 bands and s2 10 or 13, got {[x.shape[-1] for x in given]}")
    B, H, W, T = given[0].shape[:4]
    like = given[0]
    s_t_x, s_t_m = like.new_zeros(B, H, W, T, 13), like.new_ones(B, H, W, T, 7)
    if s1 is not None:
        s_t_x[..., :2], s_t_m[..., :1] = s1, 0
    if s2 is not None:
        s_t_x[..., 2:12], s_t_m[..., 1:6] = s2, 0
    if months is None:
        months = torch.full((B, T), _WRAPPER_MONTH, dtype=torch.int64, device=like.device)
    values = (like.new_zeros(B, H, W, 16), like.new_zeros(B, T, 6), like.new_zeros(B, 18))
    masks = (like.new_ones(B, H, W, 3), like.new_ones(B, T, 3), like.new_ones(B, 4))
    return EncoderInput(s_t_x, *values, s_t_m, *masks, months)


def clean_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a published ``encoder.pt`` under the encoder's names: without ``.backbone``."""
    return {name.replace(".backbone", ""): value for name, value in state.items()}
