"""Clay v1.5: a vision transformer told each pixel's size, each band's wavelength, the place and the time.

Parameter names, constants and order of operations as in ``Clay-foundation/model@a5790ce`` (``claymodel/model.py``,
``factory.py``, ``backbone.py``, ``utils.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rs_embed.nets.layers import attend, sincos
from rs_embed.nets.vit import as_grid
from rs_embed.nets.wavelengths import CODE_WIDTH, KernelGenerator, ResidualMlp, wavelength_code

__all__ = ["METADATA", "ClayEncoder", "clean_state", "position_code"]

METADATA = 8
"""Last numbers of a patch's code: four of the time, four of the place."""

_SCALE = 0.02
_TEMPERATURE = 10000
_PREFIX = "model.encoder."
_OTHER = ("model.decoder.", "model.teacher.", "model.proj.")


def _ramp(count: int) -> Tensor:
    """``count`` steps from 0 to 1, both included, float32."""
    return torch.arange(count) / (count - 1)


def position_code(rows: int, columns: int, width: int, gsd: Tensor, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of the column, then of the row, of each patch.

    The frequencies ``gsd / 10000 ** (2 j / width)``, j from 0 to 1, hardly differ from the gsd itself: that is what the
    net was trained with. With a gsd of hundreds of metres the angles are so large that another order of the same
    operations changes the fifth digit.

    Parameters
    ----------
    rows, columns : int
        Size of the grid, h and w.
    width : int
        Size P of a code, a multiple of 4.
    gsd : Tensor
        ``(N,)``, metres of a pixel.
    device : torch.device
        Where the sines are taken; the frequencies are the CPU's, as upstream.

    Returns
    -------
    Tensor
        ``(N, h, w, P)`` float32.
    """
    omega = 1.0 / (_TEMPERATURE ** (2 * _ramp(width // 4) / width)) * gsd.to("cpu", torch.float32)[:, None]
    omega = omega.to(device)[:, None]  # (N, 1, P/4)
    x, y = (sincos(torch.arange(n, device=device).expand(len(gsd), n), omega) for n in (columns, rows))
    parts = (x[:, None].expand(-1, rows, -1, -1), y[:, :, None].expand(-1, -1, columns, -1))  # (N, h, w, P/2)
    return torch.cat(parts, dim=-1)


class WavePatchEmbed(nn.Module):
    """A convolution over whole patches whose kernel comes from the bands' wavelengths."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.weight_generator = KernelGenerator(patch_size * patch_size * width, width, stack="encoder")
        self.fclayer = ResidualMlp(("l1", "l2"), F.gelu)

    def forward(self, pixels: Tensor, waves: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` and wavelengths ``(C,)`` in µm to ``(N, D, h, w)``."""
        code = wavelength_code(waves, 1.0 / (_TEMPERATURE ** _ramp(CODE_WIDTH // 2)))
        flat, bias = self.weight_generator(self.fclayer(code.to(self.weight_generator.bias_token)))
        p = self.patch_size
        kernel = flat.view(len(waves), -1, p, p).transpose(0, 1)  # (C, D*p*p) -> (D, C, p, p)
        return F.conv2d(pixels, kernel * _SCALE, bias, stride=p)


class Attention(nn.Module):
    """Self-attention behind a norm, without biases; heads of any size."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, L, D)`` to ``(N, L, D)``."""
        q, k, v = self.to_qkv(self.norm(x)).chunk(3, dim=-1)  # 3 x (N, L, heads * head_width)
        out: Tensor = self.to_out(attend(q, k, v, self.heads))
        return out


class FeedForward(nn.Module):
    """Two linear layers behind a norm."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(width, eps=1e-5), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, L, D)`` to ``(N, L, D)``."""
        out: Tensor = self.net(x)
        return out


class Transformer(nn.Module):
    """A stack of pre-norm blocks and a last norm."""

    def __init__(self, width: int, depth: int, heads: int, head_width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.layers = nn.ModuleList(
            nn.ModuleList((Attention(width, heads, head_width), FeedForward(width, hidden))) for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, L, D)`` to ``(N, L, D)``."""
        for layer in self.layers:
            for part in layer.children():
                x = x + part(x)
        out: Tensor = self.norm(x)
        return out


class ClayEncoder(nn.Module):
    """Clay's encoder, without the random masking of its training.

    Parameters
    ----------
    patch_size : int
        Side of a patch, pixels.
    dim, depth, heads, dim_head : int
        Size D of a token (8 more than a multiple of 4), blocks, heads, size of a head.
    mlp_ratio : float
        Hidden size of a block's MLP is ``int(D * mlp_ratio)``.

    Attributes
    ----------
    prefix_tokens : int
        Tokens before the patches: 1.
    token_dim : int
        D.
    """

    def __init__(
        self,
        patch_size: int = 8,
        dim: int = 1024,
        depth: int = 24,
        heads: int = 16,
        dim_head: int = 64,
        mlp_ratio: float = 4,
    ) -> None:
        super().__init__()
        if dim % 4 or dim < METADATA + 8:
            raise ValueError(f"dim must be a multiple of 4 and at least {METADATA + 8}, got {dim}")
        self.patch_size, self.prefix_tokens, self.token_dim = patch_size, 1, dim
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.patch_embedding = WavePatchEmbed(patch_size, dim)
        self.transformer = Transformer(dim, depth, heads, dim_head, int(dim * mlp_ratio))

    def embed(self, pixels: Tensor, time: Tensor, latlon: Tensor, gsd: Tensor, waves: Tensor) -> Tensor:
        """Return the patches' tokens with their codes ``(N, h, w, D)``; arguments as in `forward`."""
        patches: Tensor = self.patch_embedding(pixels, waves)
        patches = patches.permute(0, 2, 3, 1)  # (N, D, h, w) -> (N, h, w, D)
        N, rows, columns, D = patches.shape
        place = position_code(rows, columns, D - METADATA, gsd, patches.device)  # (N or 1, h, w, D - 8)
        told = torch.cat((time, latlon), dim=1).float()[:, None, None]  # (N, 1, 1, 8)
        shape = (N, rows, columns)
        code = torch.cat((place.expand(*shape, -1), told.expand(*shape, -1)), dim=-1)
        return patches + code.to(patches.dtype)

    def encode(self, patches: Tensor) -> Tensor:
        """Return ``(N, 1 + L, D)``, class token first, after the last norm, of patch tokens ``(N, L, D)``."""
        first = self.cls_token.expand(len(patches), -1, -1)
        out: Tensor = self.transformer(torch.cat((first.to(patches.dtype), patches), dim=1))
        return out

    def forward(
        self, pixels: Tensor, time: Tensor, latlon: Tensor, gsd: Tensor, waves: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embed images of the same bands.

        Parameters
        ----------
        pixels : Tensor
            ``(N, C, H, W)``, normalised; what is beyond whole patches at the right and below is not read.
        time : Tensor
            ``(N, 4)``: sine and cosine of the week, sine and cosine of the hour; zeros where unknown.
        latlon : Tensor
            ``(N, 4)``: sine and cosine of the latitude, sine and cosine of the longitude; zeros where unknown.
        gsd : Tensor
            ``()`` or ``(N,)``: metres of a pixel.
        waves : Tensor
            ``(C,)``, µm, float32; best on the CPU, as `gsd`.

        Returns
        -------
        pooled : Tensor
            ``(N, D)``: the class token after the last norm.
        tokens : Tensor
            ``(N, D, h, w)``: the patch tokens after the last norm.

        Raises
        ------
        ValueError
            If shapes do not fit, or an image is smaller than a patch.
        """
        gsd = gsd.reshape(-1)
        self._check(pixels, time, latlon, gsd, waves)
        patches = self.embed(pixels, time, latlon, gsd, waves)
        x = self.encode(patches.flatten(1, 2))
        return x[:, 0], as_grid(x[:, self.prefix_tokens :], *patches.shape[1:3])

    def _check(self, pixels: Tensor, time: Tensor, latlon: Tensor, gsd: Tensor, waves: Tensor) -> None:
        if pixels.ndim != 4 or min(pixels.shape[2:]) < self.patch_size:
            raise ValueError(f"pixels must be (N, C, H, W) of {self.patch_size} or more, got {tuple(pixels.shape)}")
        N, C = pixels.shape[:2]
        wanted = {"time": (time, (N, 4)), "latlon": (latlon, (N, 4)), "waves": (waves, (C,))}
        wanted["gsd"] = (gsd, (1,) if len(gsd) == 1 else (N,))
        for name, (value, shape) in wanted.items():
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"{name} must be {shape} beside pixels {tuple(pixels.shape)}, got {tuple(value.shape)}"
                )


def clean_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's part of a published training checkpoint, or of an encoder's own state dict.

    Raises
    ------
    ValueError
        If nothing in it is an encoder's.
    """
    kept = {name: value for name, value in state.items() if not name.startswith(_OTHER)}
    if not kept:
        raise ValueError("not a Clay checkpoint: it has no model.encoder.*")
    return {name.removeprefix(_PREFIX): value for name, value in kept.items()}
