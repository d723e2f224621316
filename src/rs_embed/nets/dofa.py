"""DOFA: a vision transformer for images of any bands, whose patch embedding is made from their wavelengths.

Xiong et al. 2024, arXiv 2403.15356; parameter names and order of operations as in ``zhu-xlab/DOFA`` (``dofa_v1.py``,
``dofa_v2.py``) with the corrected layout of the kernel (``wave_dynamic_layer.py`` of ``xiong-zhitong/DOFA-pytorch``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rs_embed.nets.layers import Block, frequencies
from rs_embed.nets.vit import as_grid, encoder_state
from rs_embed.nets.wavelengths import CODE_WIDTH, KernelGenerator, ResidualMlp, wavelength_code

__all__ = ["DofaV1", "DofaV2", "WavePatchEmbed", "v1_state", "v2_state"]

_SCALE = 0.01
_PADDING = 1
_V2_KERNEL = 14
_V2_TABLE = 224  # pixels: version 2 leaves the size of its position table to timm's default


class WavePatchEmbed(nn.Module):
    """A convolution over patches whose kernel comes from the bands' wavelengths.

    Parameters
    ----------
    patch_size : int
        Side of the kernel and its stride, pixels. The image is padded by one pixel on each side, so that a patch of
        the net lies one pixel up and left of that of the grid.
    width : int
        Size D of a token.
    """

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.weight_generator = KernelGenerator(patch_size * patch_size * width, width)
        self.fclayer = ResidualMlp(("w1", "w2"), F.relu)

    def forward(self, image: Tensor, wavelengths: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` and wavelengths ``(C,)`` in µm (best on the CPU) to ``(N, D, h, w)``."""
        if image.ndim != 4 or wavelengths.shape != image.shape[1:2]:
            raise ValueError(
                f"image must be (N, C, H, W) with C wavelengths, got {tuple(image.shape)} and "
                f"{tuple(wavelengths.shape)}"
            )
        code = wavelength_code(wavelengths.to(torch.float32) * 1000, frequencies(CODE_WIDTH))
        flat, bias = self.weight_generator(self.fclayer(code.to(self.weight_generator.bias_token)))
        p = self.patch_size
        kernel = flat.view(len(wavelengths), p, p, -1).permute(3, 0, 1, 2)  # (C, p*p*D) -> (D, C, p, p)
        return F.conv2d(image, kernel * _SCALE, bias * _SCALE, stride=p, padding=_PADDING)


def _tokens(embedded: Tensor, side: int) -> Tensor:
    """Patches ``(N, D, h, w)`` as tokens ``(N, h*w, D)``, if there are as many as the position table has."""
    if embedded.shape[2:] != (side, side):
        raise ValueError(
            f"the position table has {side} x {side} patches, and the image gives "
            f"{embedded.shape[2]} x {embedded.shape[3]}"
        )
    return embedded.flatten(2).mT  # (N, D, h, w) -> (N, h*w, D)


class DofaV1(nn.Module):
    """Version 1.

    Parameters
    ----------
    img_size, patch_size : int
        Sides in pixels; the net takes this one size.
    embed_dim, depth, num_heads : int
        Size D of a token, blocks, heads.
    mlp_ratio : float
        Hidden size of a block's MLP is ``int(D * mlp_ratio)``.
    global_pool : bool
        Whether the image's feature is the mean of the patch tokens, then ``fc_norm``; else the class token after
        ``norm``.
    norm_eps : float
        Of all norms but the generator's.

    Attributes
    ----------
    prefix_tokens : int
        Tokens before the patches: 1.
    side : int
        Patches along a side.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        global_pool: bool = True,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.side, self.prefix_tokens, self.token_dim = img_size // patch_size, 1, embed_dim
        self.global_pool = global_pool
        self.add_module("fc_norm" if global_pool else "norm", nn.LayerNorm(embed_dim, eps=norm_eps))
        self.patch_embed = WavePatchEmbed(patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.side**2, embed_dim) * 0.02, requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio=mlp_ratio, eps=norm_eps) for _ in range(depth)
        )

    def forward(self, image: Tensor, wavelengths: Tensor) -> tuple[Tensor, Tensor]:
        """Embed images of the same bands.

        Parameters
        ----------
        image : Tensor
            ``(N, C, H, W)``, normalised.
        wavelengths : Tensor
            ``(C,)``, µm, float32.

        Returns
        -------
        pooled : Tensor
            ``(N, D)``.
        tokens : Tensor
            ``(N, 1 + h*w, D)``: class token, then patches row-major, after the last block and without a norm.

        Raises
        ------
        ValueError
            If the image has another size than the net was built for, or there are fewer or more wavelengths than bands.
        """
        patches = _tokens(self.patch_embed(image, wavelengths), self.side) + self.pos_embed[:, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(image), -1, -1)
        x = torch.cat((first, patches), dim=1)  # (N, 1 + h*w, D)
        for block in self.blocks:
            x = block(x)
        return self.pool(x), x

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the image's feature ``(N, D)`` of the last block's tokens ``(N, 1 + h*w, D)``."""
        if self.global_pool:
            mean = tokens[:, self.prefix_tokens :].mean(dim=1)
            out: Tensor = self.get_submodule("fc_norm")(mean)
            return out
        normed: Tensor = self.get_submodule("norm")(tokens)
        return normed[:, 0]


class _Trunk(nn.Module):
    """What version 2 keeps of timm's ``VisionTransformer``."""

    def __init__(self, tokens: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, layer_scale=1e-5) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)


class DofaV2(nn.Module):
    """Version 2: patches of 14 pixels, layer scales.

    MLPs are four times as wide as a token and the norms' eps is 1e-6 whatever the authors' arguments say, for these do
    not reach the transformer; so is the position table of ``224 // patch_size`` patches a side, and the kernel of 14.

    Parameters
    ----------
    patch_size : int
        Only says how large the position table is.
    embed_dim, depth, num_heads : int
        Size D of a token, blocks, heads.

    Attributes
    ----------
    prefix_tokens : int
        Tokens before the patches: 1.
    side : int
        Patches along a side.
    """

    def __init__(self, patch_size: int = 14, embed_dim: int = 768, depth: int = 24, num_heads: int = 16) -> None:
        super().__init__()
        self.side, self.prefix_tokens, self.token_dim = _V2_TABLE // patch_size, 1, embed_dim
        self.patch_embed = WavePatchEmbed(_V2_KERNEL, embed_dim)
        self.model = _Trunk(1 + self.side**2, embed_dim, depth, num_heads)

    def layers(self, image: Tensor, wavelengths: Tensor) -> list[Tensor]:
        """Return each block's output ``(N, 1 + h*w, D)``, without a norm; arguments as in `forward`."""
        patches = _tokens(self.patch_embed(image, wavelengths), self.side)
        first = self.model.cls_token.expand(len(image), -1, -1)
        x = torch.cat((first, patches), dim=1) + self.model.pos_embed  # (N, 1 + h*w, D)
        found = []
        for block in self.model.blocks:
            x = block(x)
            found.append(x)
        return found

    def maps(self, image: Tensor, wavelengths: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Return the authors' features: ``(N, D, h, w)`` after each block of `indices`, without a norm."""
        layers = self.layers(image, wavelengths)
        return [as_grid(layers[i][:, self.prefix_tokens :], self.side, self.side) for i in indices]

    def forward(self, image: Tensor, wavelengths: Tensor) -> Tensor:
        """Embed images of the same bands.

        Parameters
        ----------
        image : Tensor
            ``(N, C, H, W)``, normalised.
        wavelengths : Tensor
            ``(C,)``, µm, float32.

        Returns
        -------
        Tensor
            ``(N, 1 + h*w, D)``: class token, then patches row-major, after the last norm.

        Raises
        ------
        ValueError
            If the image has another size than 224 pixels, or there are fewer or more wavelengths than bands.
        """
        out: Tensor = self.model.norm(self.layers(image, wavelengths)[-1])
        return out


def v1_state(state: Mapping[str, Tensor], *, global_pool: bool = True) -> dict[str, Tensor]:
    """Return the encoder's part of a published file of version 1.

    The trained ``norm`` is that of the masked autoencoder, and only the class token's feature uses it. ``fc_norm``,
    which the authors put behind the mean, is in no file and stays what a new norm is: factors of 1, offsets of 0.
    """
    return encoder_state(state, ("mask_token", "projector.*", "head.*", "norm.*" if global_pool else "fc_norm.*"))


def v2_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's part of a published file of version 2: all but a ``norm`` that is never used."""
    return encoder_state(state, ("norm.*", "head.*"))
