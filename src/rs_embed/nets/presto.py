"""Presto's encoder: a transformer over the months of one pixel.

Tseng et al. 2023, "Lightweight, Pre-trained Transformers for Remote Sensing Timeseries", arXiv 2304.14065; parameter
names, order of the tokens and the constants of the encodings as in ``nasaharvest/presto@13173d02``
(``single_file_presto.py``).

A token stands for a time step and a group of bands; elevation and slope, which do not change, share one token, and so
has the place. A group's token is dropped where any of its bands is hidden. The authors need as many dropped tokens in
every sample of a batch; here samples of equal length go through the blocks together, whichever tokens they keep, so
that nothing is padded and a sample's result is that of the authors alone or in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rs_embed.nets.layers import Block

__all__ = ["BANDS", "GROUPS", "NO_CLASS", "PrestoEncoder", "encoder_state", "ndvi", "unit_vectors"]

BANDS = (
    *("VV", "VH", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"),
    *("temperature_2m", "total_precipitation", "elevation", "slope", "NDVI"),
)
"""Channels of ``x``."""

GROUPS: Mapping[str, tuple[int, ...]] = {
    "S1": (0, 1),
    "S2_RGB": (2, 3, 4),
    "S2_Red_Edge": (5, 6, 7),
    "S2_NIR_10m": (8,),
    "S2_NIR_20m": (9,),
    "S2_SWIR": (10, 11),
    "ERA5": (12, 13),
    "SRTM": (14, 15),
    "NDVI": (16,),
}
"""Channels of each group; the tokens come in this order, those of DynamicWorld's classes after them."""

NO_CLASS = 9
"""DynamicWorld's classes are 0 to 8; this one says that there is none, and its token is dropped."""

_STATIC = "SRTM"
_PERIOD = 1000.0  # of the position code, instead of the usual 10000


def position_table(steps: int, width: int) -> Tensor:
    """Return ``(steps, width)`` float32: sines at even, cosines at odd columns of ``t / 1000 ** (2 (j // 2) / width)``.

    Computed in float64, as the authors do.
    """
    column = torch.arange(width)
    exponents = 2 * torch.div(column, 2, rounding_mode="floor") / width
    angles = torch.arange(steps, dtype=torch.float64)[:, None] / _PERIOD ** exponents.to(torch.float64)
    return torch.where(column % 2 == 0, angles.sin(), angles.cos()).float()


def month_table(width: int) -> Tensor:
    """Return ``(12, width)``: the sine of the month's angle, repeated, then its cosine, repeated; January is 0."""
    angles = torch.arange(12, dtype=torch.float64)[:, None] * (2 * math.pi / 12)
    return torch.cat((angles.sin().expand(12, width // 2), angles.cos().expand(12, width // 2)), dim=1).float()


def unit_vectors(latlons: Tensor) -> Tensor:
    """Return ``(..., 3)``: x, y, z on the unit sphere of latitudes and longitudes ``(..., 2)`` in degrees."""
    lat, lon = (latlons * math.pi / 180).unbind(-1)
    return torch.stack((lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()), dim=-1)


def ndvi(nir: Tensor, red: Tensor) -> Tensor:
    """Return ``(B8 - B4) / (B8 + B4)``, 0 where the sum is not positive (the authors' ``calculate_ndvi``)."""
    total = nir + red
    return torch.where(total > 0, (nir - red) / torch.where(total > 0, total, 1), 0)


class _Sequences(NamedTuple):
    """Tokens before the blocks, without those of groups that no sample shows."""

    tokens: Tensor
    """``(B, L, D)``; undefined where not kept."""
    keep: Tensor
    """``(B, L)`` bool."""
    numbers: Tensor
    """``(L,)``: index of each token in the list of all."""
    place: Tensor
    """``(B, 1, D)``: the token of the place."""


class PrestoEncoder(nn.Module):
    """Presto's encoder.

    Parameters
    ----------
    embedding_size : int
        Size D of a token, a multiple of `num_heads`.
    channel_embed_ratio, month_embed_ratio : float
        Shares of D that encode the group of bands and the month; the rest encodes the position in the series. The
        month's part must be even.
    depth, num_heads : int
        Blocks, and heads of each.
    mlp_ratio : float
        Hidden size of a block's MLP is ``int(D * mlp_ratio)``.
    max_sequence_length : int
        Longest series, in time steps.

    Raises
    ------
    ValueError
        If the sizes do not fit each other.
    """

    def __init__(
        self,
        embedding_size: int = 128,
        channel_embed_ratio: float = 0.25,
        month_embed_ratio: float = 0.25,
        depth: int = 2,
        num_heads: int = 8,
        mlp_ratio: float = 4,
        max_sequence_length: int = 24,
    ) -> None:
        super().__init__()
        width = embedding_size
        channel, month = int(width * channel_embed_ratio), int(width * month_embed_ratio)
        position = width - channel - month
        if min(channel, month, position) < 0 or month % 2:
            raise ValueError(
                f"embedding_size={width} cannot be split into channel, month and position codes of {channel}, {month} "
                f"and {position}: none may be negative, and the month's must be even"
            )
        self.embedding_size, self.max_sequence_length = width, max_sequence_length
        self.pos_embed = nn.Parameter(position_table(max_sequence_length, position)[None], requires_grad=False)
        self.eo_patch_embed = nn.ModuleDict({name: nn.Linear(len(bands), width) for name, bands in GROUPS.items()})
        self.dw_embed = nn.Embedding(NO_CLASS + 1, width)
        self.latlon_embed = nn.Linear(3, width)
        self.blocks = nn.ModuleList(Block(width, num_heads, mlp_ratio=mlp_ratio, eps=1e-5) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.month_embed = nn.Embedding(12, month)
        self.month_embed.weight = nn.Parameter(month_table(month), requires_grad=False)
        self.channel_embed = nn.Embedding(len(GROUPS) + 1, channel)

    def forward(
        self,
        x: Tensor,
        latlons: Tensor,
        *,
        mask: Tensor | None = None,
        month: int | Tensor = 0,
        dynamic_world: Tensor | None = None,
    ) -> Tensor:
        """Encode the visible tokens of each sample together.

        Parameters
        ----------
        x : Tensor
            Normalised bands ``(B, T, 17)`` in the order of `BANDS`. What is hidden may hold anything, NaN too.
            Elevation and slope are those of the first step.
        latlons : Tensor
            Latitude and longitude ``(B, 2)`` in degrees.
        mask : Tensor, optional
            ``(B, T, 17)``; where it is not 0, the band is hidden. ``None``: all are visible.
        month : int or Tensor
            Month of the first step from 0 (January), one for all samples or ``(B,)``, the others following it; or of
            every step, ``(B, T)``.
        dynamic_world : Tensor, optional
            Classes ``(B, T)`` from 0 to 8, int64, and `NO_CLASS` where there is none; ``None``: none at all.

        Returns
        -------
        Tensor
            ``(B, D)``: the norm of the mean of the kept tokens, the place's included.

        Raises
        ------
        ValueError
            If shapes do not fit each other, or the series is too long.
        """
        given = self._sequences(x, latlons, mask, month, dynamic_world)
        pooled = self.norm.weight.new_empty(len(x), self.embedding_size)
        for rows, tokens in _by_length(given):
            mean = self._encode(tokens).mean(dim=1)
            if rows is None:
                pooled = mean
            else:
                pooled[rows] = mean.to(pooled.dtype)
        out: Tensor = self.norm(pooled)
        return out

    def tokens(
        self,
        x: Tensor,
        latlons: Tensor,
        *,
        mask: Tensor | None = None,
        month: int | Tensor = 0,
        dynamic_world: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return each kept token after the norm, for samples that keep equally many.

        Parameters
        ----------
        x, latlons, mask, month, dynamic_world
            As in `forward`.

        Returns
        -------
        tokens : Tensor
            ``(B, 1 + K, D)``: the place's, then the kept ones.
        kept : Tensor
            ``(B, K)``: index of each in the list of all: the T steps of the first group, of the second, …; SRTM has one
            token, and DynamicWorld's come last.

        Raises
        ------
        ValueError
            As in `forward`, and if the samples keep different numbers of tokens.
        """
        given = self._sequences(x, latlons, mask, month, dynamic_world)
        if len(lengths := _different(given.keep.sum(dim=1))) > 1:
            raise ValueError(f"the samples keep different numbers of tokens: {lengths}")
        ((_, tokens),) = _by_length(given)
        out: Tensor = self.norm(self._encode(tokens))
        kept = given.numbers.expand_as(given.keep)[given.keep].reshape(len(x), lengths[0])
        return out, kept

    def _encode(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def _sequences(
        self,
        x: Tensor,
        latlons: Tensor,
        mask: Tensor | None,
        month: int | Tensor,
        dynamic_world: Tensor | None,
    ) -> _Sequences:
        """Tokens of the groups that any sample shows, and which are kept."""
        self._check(x, latlons, mask, dynamic_world)
        steps = x.shape[1]
        months: Tensor = self.month_embed(_months(month, len(x), steps, x.device))  # (B, T, M)
        positions = self.pos_embed[:, :steps].expand(len(x), -1, -1)  # (B, T, P)
        tokens, keeps, index, start = [], [], [], 0
        for number, (name, bands) in enumerate(GROUPS.items()):
            some = slice(0, 1 if name == _STATIC else steps)
            count = 1 if name == _STATIC else steps
            keep = _shown(x, mask, some, bands)
            if bool(keep.any()):
                values = x[:, some, bands[0] : bands[-1] + 1].to(self.norm.weight.dtype)
                code = self._code(number, months, positions) if name != _STATIC else self._static_code(number, months)
                tokens.append(self.eo_patch_embed[name](values) + code)  # (B, T or 1, D)
                keeps.append(keep)
                index.append(torch.arange(start, start + count, device=x.device))
            start += count
        if dynamic_world is not None and bool((keep := dynamic_world != NO_CLASS).any()):
            tokens.append(self.dw_embed(dynamic_world) + self._code(len(GROUPS), months, positions))
            keeps.append(keep)
            index.append(torch.arange(start, start + steps, device=x.device))
        place = self.latlon_embed(unit_vectors(latlons).to(self.norm.weight.dtype))[:, None]  # (B, 1, D)
        if not tokens:
            return _Sequences(place[:, :0], x.new_ones(len(x), 0, dtype=torch.bool), x.new_empty(0).long(), place)
        return _Sequences(torch.cat(tokens, 1), torch.cat(keeps, 1), torch.cat(index), place)

    def _code(self, number: int, months: Tensor, positions: Tensor) -> Tensor:
        """Month, group and position ``(B, T, D)``."""
        channel = self.channel_embed.weight[number].expand(*months.shape[:2], -1)
        return torch.cat((months, channel, positions), dim=-1)

    def _static_code(self, number: int, months: Tensor) -> Tensor:
        """The group alone ``(D,)``: what does not change has no month and no position."""
        channel = self.channel_embed.weight[number]
        after = self.embedding_size - months.shape[-1] - len(channel)
        return torch.cat((channel.new_zeros(months.shape[-1]), channel, channel.new_zeros(after)))

    def _check(self, x: Tensor, latlons: Tensor, mask: Tensor | None, dynamic_world: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[2] != len(BANDS):
            raise ValueError(f"x must be (B, T, {len(BANDS)}), got {tuple(x.shape)}")
        if not 1 <= x.shape[1] <= self.max_sequence_length:
            raise ValueError(f"the net takes 1 to {self.max_sequence_length} time steps, got {x.shape[1]}")
        if latlons.shape != (len(x), 2):
            raise ValueError(f"latlons must be {(len(x), 2)}, got {tuple(latlons.shape)}")
        if mask is not None and mask.shape != x.shape:
            raise ValueError(f"mask must be {tuple(x.shape)}, got {tuple(mask.shape)}")
        if dynamic_world is not None and dynamic_world.shape != x.shape[:2]:
            raise ValueError(f"dynamic_world must be {tuple(x.shape[:2])}, got {tuple(dynamic_world.shape)}")


def _shown(x: Tensor, mask: Tensor | None, some: slice, bands: tuple[int, ...]) -> Tensor:
    """Whether no band of a group is hidden, ``(B, T)``."""
    if mask is None:
        return x.new_ones(x[:, some].shape[:2], dtype=torch.bool)
    return (mask[:, some, bands[0] : bands[-1] + 1] == 0).all(dim=-1)


def _months(month: int | Tensor, samples: int, steps: int, device: torch.device) -> Tensor:
    """Month of every step ``(B, T)``, from 0."""
    given = torch.as_tensor(month, device=device)
    if given.is_floating_point() or bool(((given < 0) | (given > 11)).any()):
        raise ValueError(f"months are whole numbers from 0 (January) to 11, got {_different(given)}")
    if tuple(given.shape) not in ((), (samples,), (samples, steps)):
        raise ValueError(f"month must be one number, ({samples},) or ({samples}, {steps}), got {tuple(given.shape)}")
    if given.ndim == 2:
        return given.long()
    following = (given.reshape(-1, 1) + torch.arange(steps, device=device)) % 12  # (1 or B, T)
    return following.long().expand(samples, steps)


def _different(values: Tensor) -> list[int]:
    return sorted(set(values.flatten().tolist()))


def _by_length(given: _Sequences) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Rows of samples that keep equally many tokens (None: all), and their tokens with the place's in front."""
    if bool(given.keep.all()):
        yield None, torch.cat((given.place, given.tokens), dim=1)
        return
    lengths = given.keep.sum(dim=1)
    for length in _different(lengths):
        rows = torch.nonzero(lengths == length)[:, 0]
        keep = given.keep[rows]
        tokens = given.tokens[rows][keep].reshape(len(rows), length, given.tokens.shape[2])  # (b, L, D) -> (b, K, D)
        yield rows, torch.cat((given.place[rows], tokens), dim=1)


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's part of a published state dict, under the encoder's names; the decoder is left out.

    A state dict without the prefix ``encoder.`` is taken as the encoder's own.
    """
    prefix = "encoder."
    found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return found or dict(state)
