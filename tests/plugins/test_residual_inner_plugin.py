"""What a residual quantizer may be made of, and how the levels of compositions are named."""

import pytest
import torch
from torch import Tensor

from dvgen.assembly import build
from dvgen.discovery import discover
from dvgen.errors import ConfigError
from dvgen.experiment import Choice
from dvgen.interfaces.quantizer import Quantizer

REGISTRY = discover().registry
TINY = {"use": "ema", "num_codes": 4, "dim": 3}


def make(levels: int, inner: dict[str, object]) -> Quantizer:
    torch.manual_seed(0)
    return build(REGISTRY, "quantizer", Choice(use="residual", fields={"levels": levels, "inner": inner}))


def features(seed: int = 1) -> Tensor:
    return torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(seed))


def test_levels_of_compositions_are_one_flat_list_with_joined_names():
    product = {"use": "product", "groups": 2, "inner": TINY}
    quantizer = make(2, product)
    names = [level.name for level in quantizer.levels((5,))]
    assert names == ["residual0-group0", "residual0-group1", "residual1-group0", "residual1-group1"]
    assert [level.name for level in make(2, TINY).levels((5,))] == ["residual0", "residual1"]
    z = torch.randn(4, 6, 5)
    out = quantizer(z)
    assert len(out.codes) == 4
    assert {f"counts_{i}" for i in range(4)} <= set(out.stats)
    assert set(out.losses) == {f"{i}.{j}.commitment" for i in range(2) for j in range(2)}
    quantizer.update(out.pending)
    out = quantizer(z)
    for count in range(1, 5):
        assert quantizer.decode(out.codes[:count]).shape == z.shape
    assert torch.equal(quantizer.decode(out.codes), out.vectors)


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        ({"use": "gumbel"}, "codebook would get no gradient"),
        ({"use": "ibq"}, "codebook would get no gradient"),
        ({"use": "cosine"}, "a direction, a bounded value"),
        ({"use": "bsq"}, "a direction, a bounded value"),
        ({"use": "fsq"}, "a direction, a bounded value"),
        ({"use": "projected"}, "use = 'projected' with inner.use = 'residual'"),
        ({"use": "lfq"}, "nothing in it learns"),
        ({"use": "product", "inner": {"use": "lfq"}}, "nothing in it learns"),
        ({"use": "product", "inner": {"use": "gumbel"}}, "codebook would get no gradient"),
    ],
)
def test_an_inner_quantizer_that_cannot_quantize_what_is_left_over_is_refused(inner, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        make(2, inner)
    assert str(caught.value).startswith(f"residual: inner quantizer {inner['use']!r}: ")


def test_residual_of_residual_adds_the_levels_of_both():
    quantizer = make(2, {"use": "residual", "levels": 2, "inner": TINY})
    z, upstream = features().requires_grad_(), features(2)
    out = quantizer(z)
    assert torch.equal(torch.autograd.grad(out.vectors, z, upstream)[0], upstream)
    assert torch.equal(quantizer.decode(out.codes), out.vectors)
    assert quantizer.levels((5,))[3].name == "residual1-residual1"


def test_no_levels_are_refused():
    with pytest.raises(ConfigError, match="'levels' must be >= 1"):
        make(0, TINY)
