"""SatMAE's net of many bands: groups of bands, each with patch tokens of its own, in one sequence.

Cong, Khanna et al. 2022, arXiv 2207.08051, section 3.2; parameter names as in ``sustainlab-group/SatMAE@e31c11f``
(``models_mae_group_channels.py``). SatMAE++ (Noman et al. 2024, arXiv 2403.05419) has the same encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rs_embed.nets.layers import frequencies, sincos
from rs_embed.nets.vit import PatchEmbed, Trunk, position_parameter, sides

__all__ = ["GROUPS", "GroupedViT"]

GROUPS = ((0, 1, 2, 6), (3, 4, 5, 7), (8, 9))
"""Indices of the bands B2, B3, B4, B8; B5, B6, B7, B8A; B11, B12."""


class GroupedViT(Trunk):
    """A vision transformer over patches of groups of bands.

    The token of patch l of group g stands at ``1 + g * L + l``, after the class token. Its code is the place's, of
    ``embed_dim - channel_embed`` numbers, beside the group's, of ``channel_embed``; the class token has none.

    Parameters
    ----------
    img_size, patch_size : int or sequence of int
        Height and width in pixels.
    in_chans : int
        Bands C.
    channel_groups : sequence of sequence of int
        Indices of each group's bands; a band may stand in several groups or in none.
    channel_embed : int
        Size of the groups' code.
    embed_dim : int
        Size D of a token; ``embed_dim - channel_embed`` is a multiple of 4.
    depth, num_heads, mlp_ratio, qkv_bias, norm_eps
        As in `rs_embed.nets.vit.Trunk`.

    Attributes
    ----------
    grid : tuple of int
        Rows h and columns w of patches.
    channel_groups : tuple of tuple of int
        As given.
    """

    def __init__(
        self,
        *,
        img_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = 16,
        in_chans: int = 3,
        channel_groups: Sequence[Sequence[int]] = GROUPS,
        channel_embed: int = 256,
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
        self.channel_groups = tuple(tuple(int(i) for i in group) for group in channel_groups)
        strange = [i for group in self.channel_groups for i in group if not 0 <= i < in_chans]
        if strange or not all(self.channel_groups) or not self.channel_groups:
            raise ValueError(f"channel_groups must index the {in_chans} bands, got {self.channel_groups}")
        patch = sides(patch_size)
        self.in_chans, self.image_size = in_chans, sides(img_size)
        self.grid = (self.image_size[0] // patch[0], self.image_size[1] // patch[1])
        self.patch_embed = nn.ModuleList(PatchEmbed(len(group), embed_dim, patch) for group in self.channel_groups)
        self.pos_embed = position_parameter(self.grid, embed_dim - channel_embed)
        self.channel_embed = nn.Parameter(group_table(len(self.channel_groups), channel_embed), requires_grad=False)

    def encode(self, image: Tensor) -> Tensor:
        """Return the last block's output ``(N, 1 + G*L, D)``, before the norm."""
        height, width = self.image_size
        if image.ndim != 4 or tuple(image.shape[1:]) != (self.in_chans, height, width):
            raise ValueError(f"image must be (N, {self.in_chans}, {height}, {width}), got {tuple(image.shape)}")
        groups = zip(self.patch_embed, self.channel_groups, strict=True)
        patches = torch.stack([embed(image[:, list(group)]) for embed, group in groups], dim=1)  # (N, G, L, D)
        G, L = patches.shape[1:3]
        place = self.pos_embed[:, None, 1:].expand(-1, G, -1, -1)  # (1, 1 + L, p) -> (1, G, L, p)
        group_code = self.channel_embed[:, :, None].expand(-1, -1, L, -1)  # (1, G, c) -> (1, G, L, c)
        patches = patches + torch.cat((place, group_code), dim=-1)
        return self.run(patches.flatten(1, 2))  # (N, G, L, D) -> (N, G*L, D)

    def forward(self, image: Tensor) -> Tensor:
        """Return all tokens after the last norm.

        Parameters
        ----------
        image : Tensor
            ``(N, C, H, W)``, normalised.

        Returns
        -------
        Tensor
            ``(N, 1 + G*L, D)``: the class token, then group by group the patches row-major.

        Raises
        ------
        ValueError
            If the image has another shape than the net was built for.
        """
        out: Tensor = self.norm(self.encode(image))
        return out

    def patch_features(self, tokens: Tensor) -> Tensor:
        """Return each patch's mean over the groups, ``(N, h*w, D)``, of all tokens ``(N, 1 + G*L, D)``."""
        N, _, D = tokens.shape
        return tokens[:, self.prefix_tokens :].reshape(N, len(self.channel_groups), -1, D).mean(dim=1)


def group_table(count: int, width: int) -> Tensor:
    """Return ``(1, count, width)``: sines and cosines of the groups' numbers, computed in float64."""
    numbers = torch.arange(count, dtype=torch.float64)
    return sincos(numbers, frequencies(width, torch.float64))[None].float()
