"""Packed Linear layers compute what they computed, and leave nothing behind."""

import pytest
import torch
from torch import nn

from dvgen.interfaces.packing import SMALLEST, packed


def model(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(96, 700), nn.GELU(), nn.Linear(700, 96, bias=False), nn.Linear(96, 4)).to(dtype).eval()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many weights each product with a packed layer had."""
    found: list[int] = []
    linear = torch.ops.mkldnn._linear_pointwise

    def counting(x: torch.Tensor, weight: torch.Tensor, *rest: object) -> torch.Tensor:
        found.append(weight.numel())
        return linear(x, weight, *rest)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counting)
    return found


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("shape", [(16, 96), (1, 96), (3, 1, 96), (2, 7, 96)])
@torch.no_grad()
def test_products_are_those_of_float64(dtype: torch.dtype, allowed: float, shape: tuple[int, ...], asked: list[int]) -> None:
    own = model(dtype)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    with packed(own, 16):
        found = own(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), own.double()(x.double()), rtol=0, atol=allowed)
    assert asked in ([], [96 * 700, 700 * 96]), "both large layers, where the processor can; never the small one"
    assert 96 * 4 < SMALLEST[dtype] <= 96 * 700


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")
@torch.no_grad()
def test_large_layers_are_packed_in_the_block_and_only_there(asked: list[int]) -> None:
    own = model()
    before = own.state_dict()
    with pytest.raises(RuntimeError, match="out of luck"), packed(own, 16):  # noqa: PT012
        own(torch.ones(1, 96))
        raise RuntimeError("out of luck")
    assert len(asked) == 2
    own(torch.ones(1, 96))
    assert len(asked) == 2
    assert all("forward" not in vars(part) for part in own.modules())
    assert own.state_dict().keys() == before.keys()


@torch.no_grad()
def test_weights_that_change_between_two_blocks_are_laid_out_anew() -> None:
    own = model()
    x = torch.ones(2, 96)
    with packed(own, 2):
        own(x)
    for weight in own.parameters():
        weight.mul_(2)
    with packed(own, 2):
        found = own(x)
    torch.testing.assert_close(found, own(x))


@torch.no_grad()
def test_other_types_and_autocast_are_left_alone(asked: list[int]) -> None:
    wide, narrowed = model(torch.float64), model()
    with packed(wide, 2):
        assert wide(torch.ones(1, 96, dtype=torch.float64)).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16), packed(narrowed, 2):
        assert narrowed(torch.ones(1, 96)).dtype == torch.bfloat16
    assert asked == []


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")
@torch.no_grad()
def test_a_block_within_a_block_takes_nothing_away_from_it(asked: list[int]) -> None:
    """As when one prior wraps another."""
    own = model()
    with packed(own, 2):
        with packed(own, 2):
            own(torch.ones(1, 96))
        own(torch.ones(1, 96))
    assert len(asked) == 4
    assert all("forward" not in vars(part) for part in own.modules())


@torch.no_grad()
def test_a_layer_with_a_forward_of_its_own_keeps_it(asked: list[int]) -> None:
    own = nn.Linear(300, 300)
    own.forward = torch.zeros_like  # type: ignore[method-assign, assignment]
    with packed(own, 2):
        assert not own(torch.ones(1, 300)).any()
    assert own.forward is torch.zeros_like
    assert asked == []


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@torch.no_grad()
def test_a_weight_that_is_made_anew_at_every_call_is_never_an_old_one() -> None:
    """Weight normalisation by hooks: what stands in `weight` is that of the last call, before the optimiser's step."""
    own, x = nn.utils.weight_norm(nn.Linear(300, 300)), torch.ones(1, 300)
    own.get_parameter("weight_g").mul_(3)
    with packed(own, 1):
        found = own(x)
    torch.testing.assert_close(found, own(x))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")
def test_without_memory_for_all_layouts_none_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    own, lay_out = model(), torch.ops.mkldnn._reorder_linear_weight

    def second_fails(weight: torch.Tensor, rows: int) -> torch.Tensor:
        if weight.shape[0] == 96:
            raise MemoryError
        return lay_out(weight, rows)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", second_fails)
    with pytest.raises(MemoryError), packed(own, 2):
        pass
    assert all("forward" not in vars(part) for part in own.modules())


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")
@torch.no_grad()
def test_where_onednn_is_switched_off_it_is_not_used(asked: list[int]) -> None:
    with torch.backends.mkldnn.flags(enabled=False), packed(own := model(), 2):
        own(torch.ones(1, 96))
    assert asked == []
