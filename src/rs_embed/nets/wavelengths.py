"""Patch embeddings whose kernels are made from wavelengths, for any number of bands.

A small transformer sees a code of each band's wavelength beside learned tokens, and a linear layer turns what comes out
into that band's slice of a convolution kernel (Xiong et al. 2024, "Neural Plasticity-Inspired Foundation Model for
Observing the Earth Crossing Modalities", arXiv 2403.15356, section 3). The parts here are shared; how a wavelength is
coded and how the kernel lies in the linear layer's output differs between the nets that use them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rs_embed.nets.layers import PackedAttention, sincos

__all__ = ["CODE_WIDTH", "KernelGenerator", "PostNormLayer", "ResidualMlp", "wavelength_code"]

CODE_WIDTH = 128
"""Size of a wavelength's code and of the generator's tokens."""


def wavelength_code(wavelengths: Tensor, omega: Tensor) -> Tensor:
    """Return sines, then cosines, of wavelengths ``(C,)`` times frequencies ``(d/2,)``: ``(C, d)`` float32, on the CPU.

    Arguments reach thousands of radians, where float32 leaves a fifth digit: precision, order of operations and the
    processor's own power function are part of the net, whatever device runs the rest.
    """
    return sincos(wavelengths.to("cpu", torch.float32), omega)


class PostNormLayer(nn.Module):
    """A post-norm transformer layer with the parameter names of torch's ``TransformerEncoderLayer``.

    Parameters
    ----------
    width, heads, hidden : int
        Size D of a token, number of heads, hidden size of the MLP.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = PackedAttention(width, heads)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, L, D)`` to ``(N, L, D)``."""
        x = self.norm1(x + self.self_attn(x))
        x = self.norm2(x + self.linear2(F.gelu(self.linear1(x))))
        return x


class ResidualMlp(nn.Module):
    """``x + act(second(act(first(x))))``: the activation stands inside the residual, twice.

    Parameters
    ----------
    names : tuple of str
        What the authors call the two linear layers.
    act : callable
        The activation.
    """

    def __init__(self, names: tuple[str, str], act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layers = names
        self.act = act
        for name in names:
            self.add_module(name, nn.Linear(CODE_WIDTH, CODE_WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(C, 128)`` to ``(C, 128)``."""
        out = x
        for name in self.layers:
            out = self.act(self.get_submodule(name)(out))
        return x + out


class KernelGenerator(nn.Module):
    """From the codes of C bands to the numbers of a kernel and its bias.

    Parameters
    ----------
    kernel : int
        Numbers that a band has in the kernel: ``patch * patch * D``.
    width : int
        Numbers of the bias, D.
    stack : str
        What the authors call the transformer.
    tokens, heads, hidden, depth : int
        Learned tokens beside the bands, heads, hidden size of a layer's MLP, layers.
    """

    def __init__(
        self,
        kernel: int,
        width: int,
        *,
        stack: str = "transformer_encoder",
        tokens: int = 128,
        heads: int = 4,
        hidden: int = 2048,
        depth: int = 1,
    ) -> None:
        super().__init__()
        self.stack = stack
        self.weight_tokens = nn.Parameter(torch.randn(tokens, CODE_WIDTH) * 0.02)
        self.bias_token = nn.Parameter(torch.randn(1, CODE_WIDTH) * 0.02)
        layers = nn.ModuleList(PostNormLayer(CODE_WIDTH, heads, hidden) for _ in range(depth))
        self.add_module(stack, nn.ModuleDict({"layers": layers}))
        self.fc_weight = nn.Linear(CODE_WIDTH, kernel)
        self.fc_bias = nn.Linear(CODE_WIDTH, width)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Make a kernel.

        Parameters
        ----------
        codes : Tensor
            ``(C, 128)``.

        Returns
        -------
        kernel : Tensor
            ``(C, patch * patch * D)``.
        bias : Tensor
            ``(D,)``.
        """
        x = torch.cat((self.weight_tokens, codes, self.bias_token))[None]  # (1, tokens + C + 1, 128)
        for layer in self.get_submodule(f"{self.stack}.layers").children():
            x = layer(x)
        bands = x[0, len(self.weight_tokens) : -1] + codes  # (C, 128)
        return self.fc_weight(bands), self.fc_bias(x[0, -1])
