"""FSQ: the bound of the paper, digits of any number of levels, codes as mixed-radix numbers, the gradient of the bound."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dvgen.config import structure
from dvgen.errors import ConfigError, ShapeError
from dvgen_fsq.quantizer import FSQQuantizer


def make(*levels: int, factors: int = 1) -> FSQQuantizer:
    return FSQQuantizer(FSQQuantizer.Config(levels_per_channel=levels, factors=factors))


def one_channel(values: Tensor) -> Tensor:
    """(n,) as features (1, 1, n)."""
    return values.view(1, 1, -1)


def bound(z: Tensor, levels: int) -> Tensor:
    """f of the paper in float64, written with the identity tanh(a + b) = (tanh a + tanh b) / (1 + tanh a tanh b)."""
    half, offset = (levels - 1) / 2, 0.0 if levels % 2 else 0.5
    shift = 0.0 if levels == 2 else offset / half
    squeezed = z.double().tanh()
    return half * (squeezed + shift) / (1 + squeezed * shift) - offset


def inverse(bounded: Tensor, levels: int) -> Tensor:
    """The z that the bound takes to these values (not for two levels)."""
    half, offset = (levels - 1) / 2, 0.0 if levels % 2 else 0.5
    return ((bounded.double() + offset) / half).atanh() - math.atanh(offset / half)


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 8, 1001])
def test_codes_vectors_and_statistics_follow_the_bound_of_the_paper(levels: int) -> None:
    """The error is that of rounding, and not the distance between features and vectors, which live on other scales."""
    z = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 2
    bounded = bound(z, levels)
    clear = ((bounded - bounded.floor()) - 0.5).abs() > 1e-9
    out = make(levels)(one_channel(z))
    assert clear.all()
    assert torch.equal(out.codes[0][0], (bounded.round() + levels // 2).long())
    torch.testing.assert_close(out.vectors[0, 0].double(), bounded.round() / (levels // 2))
    error = ((bounded.round() - bounded) / (levels // 2)).square().mean()
    torch.testing.assert_close(out.stats["quantization_error"].double(), error, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("levels", [3, 4, 5, 8, 256])
def test_zero_stands_for_zero(levels: int) -> None:
    """The shift takes 0 to 0: with the tangent in place of the inverse of tanh it would be off for every even number."""
    quantizer = make(levels)
    assert float(quantizer(one_channel(torch.zeros(1))).vectors) == 0
    near = torch.tensor([-1e-3, 1e-3]) / levels
    assert (quantizer(one_channel(near)).codes[0] == levels // 2).all()


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 1000, 1001, 2001, 4096])
def test_no_value_is_out_of_range_and_the_ends_are_reached(levels: int) -> None:
    """A margin inside tanh makes the ends of more than a thousand levels unreachable, one outside leaves the range."""
    for extreme in (20.0, 50.0, 1e6, 1e30, torch.finfo(torch.float32).max):
        codes = make(levels).encode(one_channel(torch.tensor([-extreme, extreme])))[0]
        assert codes.tolist() == [[0, levels - 1]]
    for dtype, extreme in ((torch.float64, 1e300), (torch.bfloat16, 1e30), (torch.float16, 6e4)):
        codes = make(levels).encode(one_channel(torch.tensor([-extreme, extreme], dtype=dtype)))[0]
        assert codes.tolist() == [[0, levels - 1]]


@pytest.mark.parametrize("levels", [3, 4, 5, 8, 1001, 2001, 2**16, 2**20])
def test_every_digit_is_reached_where_the_bound_says(levels: int) -> None:
    """From float64 features in the middle of a digit's interval; a million levels are told apart near the ends too."""
    middles = torch.linspace(0, levels - 1, min(levels, 4000)).round().double() - levels // 2
    inner = middles.clamp(min=-(levels // 2) + 0.25, max=(levels - 1) // 2 - 0.25)
    codes = make(levels).encode(one_channel(inverse(inner, levels)))[0][0]
    assert torch.equal(codes, middles.long() + levels // 2)


def test_features_in_float32_get_the_digits_of_their_exact_values() -> None:
    """tanh in float32 would be off by whole digits of a million levels."""
    z = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 2
    expected = (bound(z, 2**20).round() + 2**19).long()
    assert torch.equal(make(2**20).encode(one_channel(z))[0][0], expected)


def test_two_levels_are_the_sign() -> None:
    """The shift of the paper is infinite there and would leave one digit."""
    z = torch.tensor([-5.0, -0.01, 0.0, 0.01, 5.0])
    out = make(2)(one_channel(z))
    assert out.codes[0].tolist() == [[0, 0, 1, 1, 1]]
    assert out.vectors[0, 0].tolist() == [-1, -1, 0, 0, 0]


def test_codes_are_mixed_radix_with_the_first_channel_counting_one() -> None:
    """And all vectors differ: going through the digits in the order of codes gives each of them once."""
    sizes = (3, 4, 2)
    vectors = make(*sizes).decode((torch.arange(24).view(1, 24),))[0].T
    digits = [digits[::-1] for digits in itertools.product(*(range(size) for size in reversed(sizes)))]
    expected = (torch.tensor(digits) - torch.tensor([1, 2, 1])) / torch.tensor([1, 2, 1])
    assert torch.equal(vectors, expected)
    assert len(vectors.unique(dim=0)) == 24


def test_levels_of_two_to_the_62_codes_are_exact() -> None:
    """Sums of floats would be wrong from 2^24 or 2^53 on; and statistics must not need memory for all codes."""
    sizes = (2**20, 2**20, 2**10, 2**12)
    quantizer = make(*sizes)
    numbers = [0, 1, 2**53 + 1, 2**61 - 1, 2**62 - 1, 1234567890123456789]
    codes = (torch.tensor([numbers]),)
    vectors = quantizer.decode(codes)[0].T.double()
    for number, vector in zip(numbers, vectors, strict=True):
        digits = [int(d) for d in np.unravel_index(number, sizes, order="F")]
        expected = [(digit - size // 2) / (size // 2) for digit, size in zip(digits, sizes, strict=True)]
        assert vector.tolist() == expected
    out = quantizer(torch.full((1, 4, 3), 50.0))
    assert out.codes[0].tolist() == [[2**62 - 1] * 3]
    assert "counts_0" not in out.stats
    assert float(out.stats["perplexity_0"]) == pytest.approx(1)
    with pytest.raises(ShapeError, match="must be in"):
        quantizer.decode((torch.tensor([[2**62]]),))


def test_factors_are_consecutive_groups_each_with_codes_of_its_own() -> None:
    """Five channels in two factors: three and two. Each factor is what FSQ of its channels alone would be."""
    z = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1))
    quantizer = make(3, 4, 2, 5, 6, factors=2)
    assert [level.num_codes for level in quantizer.levels((7,))] == [24, 30]
    out = quantizer(z)
    first, second = make(3, 4, 2)(z[:, :3]), make(5, 6)(z[:, 3:])
    assert torch.equal(out.codes[0], first.codes[0])
    assert torch.equal(out.codes[1], second.codes[0])
    assert torch.equal(out.vectors, torch.cat([first.vectors, second.vectors], dim=1))


def test_missing_and_masked_factors_are_zero_in_their_channels_alone() -> None:
    quantizer = make(3, 4, 2, 5, factors=2)
    codes = quantizer.encode(torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1)) + 3)
    whole = quantizer.decode(codes)
    assert (quantizer.decode(codes[:1])[:, 2:] == 0).all()
    assert torch.equal(quantizer.decode(codes[:1])[:, :2], whole[:, :2])
    masked = quantizer.decode((torch.full_like(codes[0], -1), codes[1]))
    assert (masked[:, :2] == 0).all()
    assert torch.equal(masked[:, 2:], whole[:, 2:])
    for wrong in ((), (*codes, codes[0]), (codes[0], codes[1][:, :3]), (codes[0][0],), (codes[0].int(),)):
        with pytest.raises(ShapeError):
            quantizer.decode(wrong)


def test_decode_works_under_vmap() -> None:
    quantizer = make(3, 4)
    codes = torch.arange(12).view(3, 2, 2)
    each = torch.vmap(lambda code: quantizer.decode((code,)))(codes)
    assert torch.equal(each, torch.stack([quantizer.decode((code,)) for code in codes]))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("levels", [(2, 3), (8, 5), (1001, 2)])
def test_gradient_is_that_of_the_bound(levels: tuple[int, ...], train: bool) -> None:
    """Straight through the rounding, and nothing else: autograd of the bound in float64 is the reference."""
    z = torch.randn(3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    upstream = torch.randn(3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    make(*levels).train(train)(z).vectors.backward(upstream)
    reference = z.detach().clone().requires_grad_()
    smooth = torch.stack([bound(reference[:, i], size) / (size // 2) for i, size in enumerate(levels)], dim=1)
    smooth.backward(upstream)
    torch.testing.assert_close(z.grad, reference.grad)


def test_a_cast_of_the_model_changes_no_code() -> None:
    z = torch.randn(1, 3, 200, generator=torch.Generator().manual_seed(0)) * 2
    expected = make(1001, 8, 2).encode(z)[0]
    for cast in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        quantizer = make(1001, 8, 2).to(cast)
        assert torch.equal(quantizer.encode(z)[0], expected)
        assert torch.equal(quantizer.decode((expected,)).float(), quantizer(z).vectors)
    assert make(3).double().decode((torch.zeros(1, 1).long(),)).dtype == torch.float64


@pytest.mark.parametrize("train", [True, False])
def test_compiles_without_a_graph_break(train: bool) -> None:
    quantizer = make(8, 2, 1001, factors=2).train(train)
    z, mask = torch.randn(2, 3, 4), torch.tensor([[True, False, True, True], [True] * 4])
    out = torch.compile(quantizer, fullgraph=True, backend="aot_eager")(z, mask)
    expected = quantizer(z, mask)
    assert torch.equal(out.vectors, expected.vectors)
    assert all(torch.equal(a, b) for a, b in zip(out.codes, expected.codes, strict=True))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"levels_per_channel": []}, "levels_per_channel"),
        ({"levels_per_channel": [8, 1]}, "levels_per_channel"),
        ({"levels_per_channel": [2**20 + 1]}, "levels_per_channel"),
        ({"levels_per_channel": [8, 5], "factors": 3}, "lower factors"),
        ({"levels_per_channel": [2**20] * 4}, "raise factors"),
        ({"factors": 0}, "factors"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        structure(fields, FSQQuantizer.Config)


def test_a_codebook_too_wide_for_one_level_fits_two() -> None:
    quantizer = make(*[2**20] * 4, factors=2)
    assert [level.num_codes for level in quantizer.levels((1,))] == [2**40, 2**40]
    assert FSQQuantizer(FSQQuantizer.Config()).levels((1,))[0].num_codes == 1000
