"""The image towers of CLIP: a vision transformer and a modified ResNet.

Radford et al. 2021, arXiv 2103.00020, section 2.4; parameter names and configurations as in open_clip
(``mlfoundations/open_clip``, open_clip_torch 3.3.0), after the prefix ``visual.``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rs_embed.nets.layers import PackedAttention, attend, pair

__all__ = ["TEXT_TOWER", "ModifiedResNet", "VisionTransformer", "build_visual", "visual_state"]

TEXT_TOWER = (
    "positional_embedding",
    "text_projection",
    "logit_scale",
    "token_embedding.*",
    "transformer.*",
    "ln_final.*",
)
"""Names (fnmatch patterns) of a CLIP state dict that do not belong to the image tower."""

_VISION_KEYS = ("image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio", "quick_gelu")
_EXPANSION = 4


def _drawn(*shape: int) -> nn.Parameter:
    """A parameter of no meaning until weights are loaded, small enough for a finite forward."""
    return nn.Parameter(torch.randn(shape).div_(shape[-1] ** 0.5))


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, with which OpenAI trained CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(...)`` to ``(...)``."""
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int, quick_gelu: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-5)
        self.attn = PackedAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=1e-5)
        steps: list[tuple[str, nn.Module]] = [
            ("c_fc", nn.Linear(width, hidden)),
            ("gelu", QuickGELU() if quick_gelu else nn.GELU()),
            ("c_proj", nn.Linear(hidden, width)),
        ]
        self.mlp = nn.Sequential(OrderedDict(steps))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, L, D)`` to ``(N, L, D)``."""
        x = x + self.attn(self.ln_1(x))
        x = x + self.mlp(self.ln_2(x))
        return x


class Transformer(nn.Module):
    """A stack of blocks."""

    def __init__(self, width: int, layers: int, heads: int, hidden: int, quick_gelu: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(width, heads, hidden, quick_gelu) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, L, D)`` to ``(N, L, D)``."""
        for block in self.resblocks:
            x = block(x)
        return x


def _check_image(image: Tensor, size: tuple[int, int]) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or tuple(image.shape[2:]) != size:
        raise ValueError(f"image must be (N, 3, {size[0]}, {size[1]}), got {tuple(image.shape)}")


class VisionTransformer(nn.Module):
    """CLIP's ViT: class token, learned positions, a norm before and after the blocks.

    Parameters
    ----------
    image_size, patch_size : int or sequence of int
        Height and width in pixels; a patch that does not divide the image leaves its right and lower rest unread.
    width, layers, heads : int
        Token size D, number of blocks, number of heads.
    mlp_ratio : float
        Hidden size of a block's MLP is ``int(width * mlp_ratio)``.
    embed_dim : int
        Size E of the image embedding.
    quick_gelu : bool
        Use ``x * sigmoid(1.702 x)`` instead of the exact GELU.

    Attributes
    ----------
    prefix_tokens : int
        Tokens before the patches in `encode`'s sequence: 1.
    grid : tuple of int
        Rows h and columns w of patches.
    embed_dim, token_dim : int
        E and D.
    """

    def __init__(
        self,
        *,
        image_size: int | Sequence[int],
        patch_size: int | Sequence[int],
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float,
        embed_dim: int,
        quick_gelu: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = pair(image_size if isinstance(image_size, int) else tuple(image_size))
        patch = pair(patch_size if isinstance(patch_size, int) else tuple(patch_size))
        self.grid = (self.image_size[0] // patch[0], self.image_size[1] // patch[1])
        self.prefix_tokens = 1
        self.embed_dim, self.token_dim = embed_dim, width
        self.class_embedding = _drawn(width)
        self.positional_embedding = _drawn(self.prefix_tokens + self.grid[0] * self.grid[1], width)
        self.proj = _drawn(width, embed_dim)
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.ln_pre = nn.LayerNorm(width, eps=1e-5)
        self.transformer = Transformer(width, layers, heads, int(width * mlp_ratio), quick_gelu)
        self.ln_post = nn.LayerNorm(width, eps=1e-5)

    def encode(self, image: Tensor) -> Tensor:
        """Return the last block's output ``(N, 1 + h*w, D)``: class token, then row-major patches, before ln_post."""
        _check_image(image, self.image_size)
        patches = self.conv1(image).flatten(2).transpose(1, 2)  # (N, D, h, w) -> (N, h*w, D)
        first = self.class_embedding.expand(len(image), 1, -1)  # (D,) -> (N, 1, D)
        out: Tensor = self.transformer(self.ln_pre(torch.cat((first, patches), dim=1) + self.positional_embedding))
        return out

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Embed images.

        Parameters
        ----------
        image : Tensor
            ``(N, 3, H, W)``, normalised.

        Returns
        -------
        pooled : Tensor
            ``(N, E)``: the class token after ln_post, projected; not of unit length.
        tokens : Tensor
            ``(N, D, h, w)``: the patch tokens after ln_post, not projected.

        Raises
        ------
        ValueError
            If the image has another shape than the tower was built for.
        """
        x = self.ln_post(self.encode(image))
        pooled = x[:, 0] @ self.proj
        patches = x[:, self.prefix_tokens :].transpose(1, 2)  # (N, h*w, D) -> (N, D, h*w)
        tokens = patches.reshape(*patches.shape[:2], *self.grid)  # (N, D, h, w)
        return pooled, tokens


class Bottleneck(nn.Module):
    """A residual block that strides by average pooling, so that no convolution skips a pixel."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = planes * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.pool: nn.Module = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample: nn.Sequential | None = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, 4 planes, H / stride, W / stride)``."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.pool(out)))
        return F.relu(out + (x if self.downsample is None else self.downsample(self.pool(x))))


class AttentionPool(nn.Module):
    """Attention whose only query is the mean of all positions."""

    def __init__(self, positions: int, width: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = _drawn(positions + 1, width)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, h, w)`` to ``(N, E)``."""
        x = x.flatten(2).transpose(1, 2)  # (N, C, h, w) -> (N, h*w, C)
        x = torch.cat((x.mean(dim=1, keepdim=True), x), dim=1) + self.positional_embedding
        out: Tensor = self.c_proj(attend(self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x), self.heads))
        return out[:, 0]


class ModifiedResNet(nn.Module):
    """CLIP's ResNet: three-convolution stem, average-pool strides, attention pool.

    Parameters
    ----------
    image_size : int or sequence of int
        Height and width in pixels, at least 32.
    layers : sequence of int
        Number of blocks of the four stages.
    width : int
        Channels after the stem; the last stage has ``32 * width``.
    heads : int
        Heads of the attention pool.
    embed_dim : int
        Size E of the image embedding.

    Attributes
    ----------
    prefix_tokens : int
        0: the feature map has no tokens beside its pixels.
    grid : tuple of int
        Rows h and columns w of the last stage.
    embed_dim, token_dim : int
        E and ``32 * width``.
    """

    def __init__(
        self, *, image_size: int | Sequence[int], layers: Sequence[int], width: int, heads: int, embed_dim: int
    ) -> None:
        super().__init__()
        self.image_size = pair(image_size if isinstance(image_size, int) else tuple(image_size))
        self.grid = (self.image_size[0] // 32, self.image_size[1] // 32)
        self.prefix_tokens = 0
        self.embed_dim, self.token_dim = embed_dim, 32 * width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, layers[0], stride=1)
        self.layer2 = _stage(4 * width, 2 * width, layers[1], stride=2)
        self.layer3 = _stage(8 * width, 4 * width, layers[2], stride=2)
        self.layer4 = _stage(16 * width, 8 * width, layers[3], stride=2)
        self.attnpool = AttentionPool(self.grid[0] * self.grid[1], self.token_dim, heads, embed_dim)

    def features(self, image: Tensor) -> Tensor:
        """Return the last stage's output ``(N, 32 width, h, w)`` of images ``(N, 3, H, W)``."""
        _check_image(image, self.image_size)
        x = F.relu(self.bn1(self.conv1(image)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        out: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return out

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Embed images.

        Parameters
        ----------
        image : Tensor
            ``(N, 3, H, W)``, normalised.

        Returns
        -------
        pooled : Tensor
            ``(N, E)``: the attention pool, not of unit length.
        tokens : Tensor
            ``(N, 32 width, h, w)``: the last stage's output.

        Raises
        ------
        ValueError
            If the image has another shape than the tower was built for.
        """
        tokens = self.features(image)
        return self.attnpool(tokens), tokens


def _stage(inputs: int, planes: int, blocks: int, *, stride: int) -> nn.Sequential:
    outputs = planes * _EXPANSION
    rest = [Bottleneck(outputs, planes, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(inputs, planes, stride), *rest)


def _heads(width: int, head_width: int) -> int:
    if head_width < 1 or width % (heads := max(width // head_width, 1)):
        raise ValueError(f"a width of {width} cannot be split into heads of {head_width}")
    return heads


def build_visual(
    *, embed_dim: int, vision_cfg: Mapping[str, Any], quick_gelu: bool = False
) -> VisionTransformer | ModifiedResNet:
    """Build the image tower that an open_clip configuration describes.

    Parameters
    ----------
    embed_dim : int
        Size E of the image embedding.
    vision_cfg : mapping
        ``image_size`` (number or pair, default 224), ``layers`` (a number for a ViT, a list of four for a ResNet,
        default 12), ``width`` (768), ``head_width`` (64), ``patch_size`` (number or pair, 16; unused by a ResNet),
        ``mlp_ratio`` (4.0; unused by a ResNet), ``quick_gelu`` (the argument of the same name).
    quick_gelu : bool
        ``x * sigmoid(1.702 x)`` instead of the exact GELU; a ResNet has ReLU always.

    Returns
    -------
    VisionTransformer or ModifiedResNet
        Its parameters bear the published names without ``visual.``.

    Raises
    ------
    ValueError
        If `vision_cfg` holds unknown keys, four stages are not given, or heads do not divide the width.
    """
    if unknown := sorted(set(vision_cfg) - set(_VISION_KEYS)):
        raise ValueError(f"unknown keys in vision_cfg: {', '.join(unknown)}; known are {', '.join(_VISION_KEYS)}")
    layers = vision_cfg.get("layers", 12)
    width, head_width = int(vision_cfg.get("width", 768)), int(vision_cfg.get("head_width", 64))
    image_size = vision_cfg.get("image_size", 224)
    if isinstance(layers, list | tuple):
        if len(layers) != 4:
            raise ValueError(f"a ResNet has four stages, vision_cfg has layers={layers!r}")
        heads = _heads(32 * width, head_width)
        return ModifiedResNet(image_size=image_size, layers=layers, width=width, heads=heads, embed_dim=embed_dim)
    return VisionTransformer(
        image_size=image_size,
        patch_size=vision_cfg.get("patch_size", 16),
        width=width,
        layers=int(layers),
        heads=_heads(width, head_width),
        mlp_ratio=float(vision_cfg.get("mlp_ratio", 4.0)),
        embed_dim=embed_dim,
        quick_gelu=bool(vision_cfg.get("quick_gelu", quick_gelu)),
    )


def visual_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the image tower of a whole CLIP's state dict, under the names of `build_visual`.

    Parameters
    ----------
    state : mapping of str to Tensor
        A flat state dict in open_clip's names.

    Returns
    -------
    dict of str to Tensor
        The entries under ``visual.``, without that prefix and without BatchNorm's step counters.

    Raises
    ------
    ValueError
        If nothing lies under ``visual.``, or names remain that belong to neither tower (`TEXT_TOWER`).
    """
    visual = {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}
    rest = [name for name in state if not name.startswith("visual.")]
    strange = [name for name in rest if not any(fnmatchcase(name, pattern) for pattern in TEXT_TOWER)]
    if strange or not visual:
        raise ValueError(
            f"not a CLIP state dict in open_clip's names: {len(visual)} names under 'visual.', "
            f"and {len(strange)} that belong to neither tower: {', '.join(strange[:5])}"
        )
    return {name: value for name, value in visual.items() if not name.endswith(".num_batches_tracked")}
