"""PixelSNAIL as it is usually written: dense convolutions over one-hot codes, and a masked n x n attention.

The weights are those of one of dvgen's, so that both compute the same numbers (which whoever compares them checks): what is
left to differ is the form. A grid may have fewer rows than the prior's, for peers sample from the rows so far.

Shapes: b batch, h w grid, n = h * w, k num_codes, d channels, e width of a head.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class MaskedConv(nn.Module):
    """A convolution over (b, inputs, h, w) whose kernel has zeros where the first `taps` weights, in raster order, end."""

    mask: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, kernel: int) -> None:
        """weight: (taps, inputs, outputs)."""
        super().__init__()
        taps, inputs, outputs = weight.shape
        self.margin = kernel // 2
        window = (self.margin + 1) * kernel
        dense = weight.new_zeros(window, inputs, outputs)
        dense[:taps] = weight
        mask = (torch.arange(window) < taps).to(weight.dtype)
        self.weight = nn.Parameter(rearrange(dense, "(y x) i o -> o i y x", x=kernel).contiguous())
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        self.register_buffer("mask", rearrange(mask, "(y x) -> y x", x=kernel))

    def forward(self, x: Tensor) -> Tensor:
        """(b, outputs, h, w) from x (b, inputs, h, w)."""
        return F.conv2d(F.pad(x, (self.margin, self.margin, self.margin, 0)), self.weight * self.mask, self.bias)


class MaskedAttention(nn.Module):
    """Attention of each place to all before it, over (b, d, h, w), with the whole n x n matrix; the first place gets zero."""

    def __init__(self, weights: dict[str, Tensor], heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = _linear(torch.cat([weights["query.weight"], weights["query_place.weight"]], dim=1), weights["query.bias"])
        memory = torch.cat([weights["memory.weight"], weights["memory_place.weight"]], dim=1)
        self.memory = _linear(memory, weights["memory.bias"])

    def forward(self, stack: Tensor, codes: Tensor, background: Tensor) -> Tensor:
        """(b, d, h, w) from the stack and the embedded codes (b, d, h, w), and the background (b, 2, h, w)."""
        query = self.query(_rows(torch.cat([stack, background], dim=1)))
        memory = self.memory(_rows(torch.cat([stack, codes, background], dim=1)))
        query, keys, values = (
            rearrange(x, "b n (heads e) -> b heads n e", heads=self.heads) for x in (query, *memory.chunk(2, dim=-1))
        )
        scores = query @ keys.transpose(-2, -1) / math.sqrt(query.shape[-1])
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu()
        weights = scores.masked_fill(later, -1e4).softmax(dim=-1)
        start = (torch.arange(scores.shape[-2], device=scores.device) > 0).to(weights.dtype).unsqueeze(-1)
        return rearrange((weights * start) @ values, "b heads (h w) e -> b (heads e) h w", h=stack.shape[2])


class PlainBlock(nn.Module):
    """Gated residual layers, attention, and the gated merge of the two."""

    def __init__(self, prior: Any, weights: dict[str, Tensor], gate_biases: Tensor) -> None:
        """gate_biases: (layers, 2d)."""
        super().__init__()
        convolutions = [
            MaskedConv(weights[f"layers.{i}.{which}.weight"], weights.get(f"layers.{i}.{which}.bias"), prior.config.kernel)
            for i in range(len(gate_biases))
            for which in ("first", "second")
        ]
        self.first, self.second = nn.ModuleList(convolutions[::2]), nn.ModuleList(convolutions[1::2])
        self.gate_biases = nn.Parameter(gate_biases.clone())
        self.attention = MaskedAttention(_under(weights, "attention"), prior.config.heads)
        self.merge = _conv1x1(weights["merge.weight"], weights["merge.bias"])

    def forward(self, x: Tensor, codes: Tensor, background: Tensor) -> Tensor:
        for first, second, bias in zip(self.first, self.second, self.gate_biases, strict=True):
            gated = second(F.elu(first(F.elu(x)))) + rearrange(bias, "d -> d 1 1")
            x = x + F.glu(gated, dim=1)
        attended = self.attention(x, codes, background)
        return x + F.glu(self.merge(F.elu(torch.cat([x, attended], dim=1))), dim=1)


class PlainPixelSNAIL(nn.Module):
    """The same function of the codes as a `pixelsnail` prior without context and without dropout."""

    background: Tensor

    def __init__(self, prior: Any) -> None:
        super().__init__()
        weights = {name: value.detach() for name, value in prior.state_dict().items()}
        config, (height, width) = prior.config, prior.level.grid
        table = weights["codes.weight"]
        self.num_codes = table.shape[0]
        self.codes = nn.Parameter(table.clone())
        # a look-up and a convolution are one convolution over one-hot codes, with num_codes inputs
        self.first = MaskedConv(
            torch.einsum("kd,tdo->tko", table, weights["first.weight"]), weights["first.bias"], config.kernel
        )
        biases = rearrange(
            weights["gate_biases.bias"],
            "(blocks layers d) -> blocks layers d",
            blocks=config.blocks,
            layers=config.residual_blocks,
        )
        self.blocks = nn.ModuleList(PlainBlock(prior, _under(weights, f"blocks.{i}"), biases[i]) for i in range(config.blocks))
        self.head = _conv1x1(weights["head.weight"], weights["head.bias"])
        rows, columns = ((torch.arange(size) - size / 2) / size for size in (height, width))
        self.register_buffer("background", torch.stack(torch.meshgrid(rows, columns, indexing="ij")).to(table.dtype))

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (b, h, w, k) of codes (b, h, w); h may be smaller than the prior's."""
        one_hot = rearrange(F.one_hot(codes, self.num_codes), "b h w k -> b k h w").to(self.codes.dtype)
        background = self.background[:, : codes.shape[1]].expand(len(codes), -1, -1, -1)
        embedded = F.conv2d(one_hot, rearrange(self.codes, "k d -> d k 1 1"))
        x = self.first(one_hot)
        for block in self.blocks:
            x = block(x, embedded, background)
        return rearrange(self.head(F.elu(x)), "b k h w -> b h w k")

    def loss(self, codes: Tensor) -> Tensor:
        """Mean negative log-likelihood of codes (b, h, w), in nats a code."""
        return F.cross_entropy(rearrange(self(codes), "b h w k -> b k h w"), codes)


def _under(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in weights.items() if name.startswith(f"{prefix}.")}


def _rows(x: Tensor) -> Tensor:
    return rearrange(x, "b d h w -> b (h w) d")


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _conv1x1(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, dtype=weight.dtype)
    layer.load_state_dict({"weight": rearrange(weight, "o i -> o i 1 1"), "bias": bias})
    return layer
