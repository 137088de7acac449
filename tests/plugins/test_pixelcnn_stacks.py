"""The two stacks of the gated PixelCNN: their convolutions, what a place sees by the closed form, and no blind spot."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from dvgen.interfaces.codes import Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen_pixelcnn.causal_conv import CausalConv, gated
from dvgen_pixelcnn.prior import PixelCNN


def config(layers: int, **changes: object) -> PixelCNN.Config:
    """A narrow network with small kernels."""
    sizes = {"channels": 8, "head_channels": 8, "first_kernel": 3, "kernel": 3, "conditioning_blocks": 1, "dropout": 0.0}
    return PixelCNN.Config(layers=layers, **{**sizes, **changes})


def build(config: PixelCNN.Config, grid: tuple[int, ...]) -> PixelCNN:
    """A PixelCNN in float64 whose every path, its biases too, is strong, without context."""
    torch.manual_seed(0)
    prior = PixelCNN(config, levels=(Level("level", grid, 5),), context=ContextShape()).double().eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return prior


def random_codes(batch: int, grid: tuple[int, ...]) -> Tensor:
    """Random codes."""
    return torch.randint(0, 5, (batch, *grid), generator=Generator().manual_seed(0))


def seen(prior: PixelCNN) -> Tensor:
    """(t, t) bool: whether the logits of place i depend on the code of place j, by the gradient at its embedding."""
    embedded: list[Tensor] = []
    handle = prior.codes.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    # several maps, for the ReLU of the output may hide a place in one
    logits = prior.logits(random_codes(4, prior.level.grid), Context(4)).flatten(1, -2)
    handle.remove()
    rows = [torch.autograd.grad(logits[:, i].sum(), embedded, retain_graph=True)[0] for i in range(logits.shape[1])]
    return torch.stack([(row != 0).any(-1).any(0).flatten() for row in rows])


def expected_reach(height: int, width: int, reach: int) -> Tensor:
    """The closed form: `reach` places to the left, and in as many rows above all columns at most `reach` away."""
    places = list(itertools.product(range(height), range(width)))
    return torch.tensor(
        [
            [(0 < r - i <= reach and abs(c - j) <= reach) or (r == i and 0 < c - j <= reach) for i, j in places]
            for r, c in places
        ]
    )


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("window", "right"), [((2, 3), 1), ((3, 5), 2), ((1, 3), 0), ((3, 1), 0)], ids=str)
def test_a_convolution_equals_its_definition_whole_and_in_blocks(window: tuple[int, int], right: int, dilation: int) -> None:
    """Tap by tap, nothing beyond the border; and row by row, then place by place where no tap looks to the right."""
    torch.manual_seed(0)
    conv = CausalConv(3, window, right=right, dilation=dilation, gain=1.0).double()
    x = torch.randn(2, 4, 6, 3, dtype=torch.float64)
    expected = torch.zeros(2, 4, 6, 6, dtype=torch.float64)
    for r, c, i, j in itertools.product(range(4), range(6), range(window[0]), range(window[1])):
        row, column = r - dilation * (window[0] - 1 - i), c - dilation * (window[1] - 1 - right - j)
        if 0 <= row < 4 and 0 <= column < 6:
            expected[:, r, c] += x[:, row, column] @ conv.weight[:, :, i, j].T
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-12)
    rows, places = conv.cache(2, 4, 6), conv.cache(2, 4, 6)
    for r in range(4):
        block = conv.extend(x[:, r : r + 1], rows, r, 0)
        torch.testing.assert_close(block, expected[:, r : r + 1], rtol=0, atol=1e-12)
        for c in range(6 if right == 0 else 0):
            block = conv.extend(x[:, r : r + 1, c : c + 1], places, r, c)
            torch.testing.assert_close(block, expected[:, r : r + 1, c : c + 1], rtol=0, atol=1e-12)


def masked_conv(x: Tensor, weight: Tensor, first_tap: tuple[int, int], kernel: int) -> Tensor:
    """The usual form: a kernel x kernel convolution around each place, all its weights zero but a block of them."""
    full = torch.zeros(*weight.shape[:2], kernel, kernel, dtype=weight.dtype)
    rows, columns = (slice(at, at + size) for at, size in zip(first_tap, weight.shape[2:], strict=True))
    full[:, :, rows, columns] = weight
    return F.conv2d(x.permute(0, 3, 1, 2), full, padding=kernel // 2).permute(0, 2, 3, 1)


def test_two_layers_equal_masked_convolutions_of_figure_2() -> None:
    """Vertical: masked k x k, its own row masked in the first layer. Horizontal: masked 1 x k, its own place likewise."""
    prior = build(config(2, first_kernel=5), (5, 6))
    codes = random_codes(3, (5, 6))
    stack, a, b = prior.vertical, *prior.horizontal
    bias = prior.gate_biases.bias.unflatten(0, (3, 16))
    embedded = prior.codes(codes)
    above = masked_conv(embedded, stack.layers[0].weight, (0, 0), 5)
    left = masked_conv(embedded, a.conv.weight, (2, 0), 5)
    shifted = torch.cat([torch.zeros_like(embedded[:, :, :1]), embedded[:, :, :-1]], dim=2)
    h = shifted + a.mix(gated(left + stack.across[0](above) + bias[0]))
    above = masked_conv(gated(above + bias[2]), stack.layers[1].weight, (0, 0), 3)
    h = h + b.mix(gated(masked_conv(h, b.conv.weight, (1, 0), 3) + stack.across[1](above) + bias[1]))
    torch.testing.assert_close(prior.logits(codes, Context(3)), prior.head(h), rtol=0, atol=1e-12)


def test_the_gate_is_tanh_times_sigmoid() -> None:
    x = torch.tensor([0.5, -2.0, 1.5, -0.3], dtype=torch.float64)
    expected = [math.tanh(0.5) / (1 + math.exp(-1.5)), math.tanh(-2) / (1 + math.exp(0.3))]
    assert gated(x).tolist() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("first_kernel", [3, 5])
def test_one_layer_sees_its_window_and_nothing_else(first_kernel: int) -> None:
    prior = build(config(1, first_kernel=first_kernel), (6, 7))
    assert torch.equal(seen(prior), expected_reach(6, 7, first_kernel // 2))


@pytest.mark.parametrize(
    ("changes", "reach"),
    [
        ({"layers": 3}, 3),
        ({"layers": 2, "kernel": 5}, 3),
        ({"layers": 3, "first_kernel": 5, "dilations": (1, 3)}, 6),
        ({"layers": 2, "first_kernel": 5, "dilations": (2, 1)}, 4),
    ],
    ids=str,
)
def test_layers_widen_the_reach_by_the_closed_form(changes: dict[str, object], reach: int) -> None:
    assert torch.equal(seen(build(config(**changes), (8, 9))), expected_reach(8, 9, reach))  # type: ignore[arg-type]


@pytest.mark.parametrize("dilations", [(1,), (1, 2)], ids=str)
def test_enough_layers_see_all_before_and_nothing_else(dilations: tuple[int, ...]) -> None:
    """No blind spot: the dependence is exactly the strict lower triangle of raster order."""
    prior = build(config(6 if dilations == (1,) else 4, dilations=dilations), (5, 6))
    assert torch.equal(seen(prior), torch.ones(30, 30).tril(-1).bool())


def test_dilations_that_double_carry_sound_far() -> None:
    """3 places from the first layer, then 1 + 2 + 4 + 8, twice; the cycle starts again after its end."""
    prior = build(config(9, first_kernel=7, dilations=(1, 2, 4, 8)), (40,))
    places = torch.arange(40)
    distance = places.unsqueeze(1) - places
    assert torch.equal(seen(prior), (distance > 0) & (distance <= 33))


def test_the_far_rows_are_heard_at_the_start() -> None:
    """Twelve gates in a row must not silence the vertical stack: with a gain of one its output would be a thousandth."""
    torch.manual_seed(0)
    prior = PixelCNN(PixelCNN.Config(), levels=(Level("level", (20, 20), 64),), context=ContextShape()).eval()
    assert prior.vertical is not None
    x = torch.randn(2, 20, 20, 64)
    with torch.no_grad():
        for layer in prior.vertical.layers:
            x = gated(layer(x))
    assert float(x[:, 14:, 3:-3].std()) > 0.05
