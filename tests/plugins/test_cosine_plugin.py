"""Directions as codes: the largest cosine, the gradient of the normalisation, and lengths that stay one."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dvgen.config import structure
from dvgen.errors import ConfigError, NonFiniteError, ShapeError
from dvgen_ema.cosine import CosineQuantizer

NEVER = 10**9


def make(**fields: float) -> CosineQuantizer:
    torch.manual_seed(0)
    return CosineQuantizer(CosineQuantizer.Config(**({"num_codes": 8, "dim": 3, "revive_after": NEVER} | fields)))


def maps(rows: Tensor) -> Tensor:
    """Rows (n, d) as one map (1, d, n)."""
    return rows.T.unsqueeze(0)


def step(quantizer: CosineQuantizer, rows: Tensor) -> Tensor:
    out = quantizer(maps(rows))
    quantizer.update(out.pending)
    return out.codes[0][0]


def normalised(rows: Tensor) -> Tensor:
    """Rows (n, d) at length one, in float64; torch's own normalisation leaves short ones short."""
    return rows.double() / rows.double().norm(dim=1, keepdim=True)


def lengths(quantizer: CosineQuantizer) -> Tensor:
    return quantizer.codebook.double().norm(dim=1)


@pytest.mark.parametrize("offset", [0.0, 5.0])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_codes_are_those_of_the_largest_cosine(scale: float, offset: float) -> None:
    """By brute force in float64; the length of a feature does not matter, and the vectors have length one."""
    quantizer = make(num_codes=64, dim=8)
    rows = scale * (torch.randn(500, 8) + offset)
    cosines = normalised(rows) @ normalised(quantizer.codebook).T
    out = quantizer(maps(rows))
    own = cosines.gather(1, out.codes[0].T).squeeze(1)
    assert (own >= cosines.amax(dim=1) - 1e-6).all()
    assert torch.equal(out.codes[0], quantizer(maps(rows * 2.0**20)).codes[0])
    torch.testing.assert_close(out.vectors.norm(dim=1), torch.ones(1, 500))


def test_loss_and_gradients_equal_float64_autograd() -> None:
    """Commitment is the mean square of u - sg[e]; what follows the vectors is handed to u, and through z/|z| to z."""
    quantizer, upstream = make(commitment=0.5), torch.randn(4, 3, 5)
    z = torch.randn(4, 3, 5, requires_grad=True)
    out = quantizer(z)
    wide, fixed = z.detach().double().requires_grad_(), out.vectors.detach().double()
    u = wide / wide.square().sum(dim=1, keepdim=True).sqrt()
    vectors = u + (fixed - u).detach()
    loss = 0.5 * (u - fixed).square().mean()
    assert set(out.losses) == {"commitment"}
    torch.testing.assert_close(out.losses["commitment"].double(), loss, rtol=1e-6, atol=0)
    ((out.vectors * upstream).sum() + out.losses["commitment"]).backward()
    ((vectors * upstream).sum() + loss).backward()
    torch.testing.assert_close(z.grad.double(), wide.grad, rtol=1e-5, atol=1e-6)
    assert (z.grad * z).sum(dim=1).abs().max() < 1e-5
    assert list(quantizer.parameters()) == []


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_lengths_stay_one_over_many_updates(scale: float, decay: float) -> None:
    """Moving averages of unit vectors that are not brought back to length one let the codes shrink or grow without bound.

    (vector-quantize-pytorch, issue 26.) With features that drift, codes that die, and codes that are revived.
    """
    quantizer = make(num_codes=32, dim=4, decay=decay, revive_after=5)
    generator = torch.Generator().manual_seed(1)
    centre, revived = torch.zeros(4), 0
    for _ in range(200):
        centre = centre + 0.1 * torch.randn(4, generator=generator)
        before = quantizer.unused.clone()
        codes = step(quantizer, scale * (centre + torch.randn(60, 4, generator=generator)))
        back = (before > 0) & (quantizer.unused == 0)
        back[codes] = False
        revived += int(back.sum())
        torch.testing.assert_close(lengths(quantizer), torch.ones(32, dtype=torch.float64), rtol=0, atol=3e-7)
    assert revived > 0
    assert len(quantizer.codebook.unique(dim=0)) == 32


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_codes_are_the_directions_of_the_averages_in_closed_form(decay: float) -> None:
    quantizer = make(decay=decay)
    sums = torch.zeros(8, 3, dtype=torch.float64)
    for _ in range(6):
        rows = torch.randn(100, 3)
        one_hot = F.one_hot(step(quantizer, rows), 8).double()
        sums = decay * sums + (1 - decay) * one_hot.T @ normalised(rows)
        chosen = one_hot.sum(dim=0) > 0
        torch.testing.assert_close(quantizer.codebook[chosen].double(), normalised(sums[chosen]), rtol=0, atol=1e-6)


def test_decay_zero_is_spherical_k_means_and_never_lowers_the_mean_cosine() -> None:
    quantizer, rows, cosines = make(decay=0.0), torch.randn(300, 3), []
    for _ in range(8):
        cosines.append(float(F.cosine_similarity(quantizer(maps(rows)).vectors[0].T, rows).mean()))
        step(quantizer, rows)
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(cosines))
    assert cosines[-1] > cosines[0] + 0.01


def test_features_that_cancel_leave_their_code_where_it_is() -> None:
    """The centre of the sphere has no direction; a code of zero would never be chosen again."""
    quantizer = make(num_codes=1)
    before = quantizer.codebook.clone()
    step(quantizer, torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))
    assert torch.equal(quantizer.codebook, before)
    assert quantizer.counts[0] > 0


def test_features_of_zero_take_the_first_code_and_turn_nothing() -> None:
    """They have no direction: no NaN, and no change of a code, alone or among others."""
    quantizer = make(decay=0.5)
    z = torch.zeros(2, 3, 5, requires_grad=True)
    out = quantizer(z)
    assert (out.codes[0] == 0).all()
    (out.vectors.sum() + out.losses["commitment"]).backward()
    assert z.grad.isfinite().all()
    before = quantizer.codebook.clone()
    quantizer.update(out.pending)
    assert torch.equal(quantizer.codebook, before)
    rows, plain, mixed = torch.randn(40, 3), make(decay=0.5), make(decay=0.5)
    step(plain, rows)
    step(mixed, torch.cat([rows, torch.zeros(10, 3)]))
    assert torch.equal(mixed.sums, plain.sums)
    torch.testing.assert_close(mixed.codebook, plain.codebook)


def test_a_mask_equals_dropping_the_positions_in_losses_and_in_state() -> None:
    """P31, with NaN, infinity and large values under the mask; also over updates with revival."""
    masked, dense = make(revive_after=2), make(revive_after=2)
    for one in (masked, dense):
        one.codebook[6:] = one.codebook[5]  # equals of the code before: never chosen
    for t in range(6):
        generator = torch.Generator().manual_seed(t)
        z, valid = torch.randn(4, 3, 20, generator=generator), torch.rand(4, 20, generator=generator) < 0.5
        junk = [torch.nan, torch.inf, 1e30][t % 3]
        left = masked(torch.where(valid.unsqueeze(1), z, junk), valid)
        right = dense(maps(z.movedim(1, -1)[valid]))
        assert torch.equal(left.codes[0][valid], right.codes[0][0])
        for name, value in (left.losses | left.stats | left.pending).items():
            if name != "certified":  # of all rows searched, the masked ones among them
                torch.testing.assert_close(value, (right.losses | right.stats | right.pending)[name], msg=name)
        masked.update(left.pending)
        dense.update(right.pending)
    for name, value in masked.state_dict().items():
        torch.testing.assert_close(value, dense.state_dict()[name], msg=name)
    assert len(masked.codebook.unique(dim=0)) == 8


@pytest.mark.parametrize("rows", [1, 3, 200])
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 1e6])
def test_initialised_codes_are_different_directions_of_features(scale: float, rows: int) -> None:
    quantizer = make(num_codes=16)
    z = scale * torch.randn(rows, 3)
    step(quantizer, torch.randn(50, 3))
    quantizer.initialise(z)
    torch.testing.assert_close(lengths(quantizer), torch.ones(16, dtype=torch.float64), rtol=0, atol=3e-7)
    assert len(quantizer.codebook.unique(dim=0)) == 16
    assert all((state == 0).all() for state in (quantizer.counts, quantizer.sums, quantizer.unused))
    if scale and rows == 200:
        assert len(quantizer.encode(maps(z))[0].unique()) == 16
        assert (normalised(z) @ quantizer.codebook.double().T).amax(dim=0).min() > 1 - 1e-6


def test_initialise_refuses_what_has_no_directions_and_changes_nothing() -> None:
    quantizer = make()
    before = quantizer.codebook.clone()
    with pytest.raises(ShapeError, match="initialise"):
        quantizer.initialise(torch.zeros(0, 3))
    with pytest.raises(NonFiniteError, match="1 of 3"):
        quantizer.initialise(torch.tensor([[1.0, torch.nan, 2.0]]))
    assert torch.equal(quantizer.codebook, before)


def test_quantizing_the_vectors_gives_their_codes_again() -> None:
    quantizer = make(num_codes=512, dim=8)
    for _ in range(5):
        step(quantizer, torch.randn(2000, 8))
    codes = torch.arange(512).unsqueeze(0)
    assert torch.equal(quantizer.encode(quantizer.decode((codes,)))[0], codes)


@pytest.mark.parametrize("train", [True, False])
def test_forward_and_update_compile_into_one_graph(train: bool) -> None:
    eager, compiled = make(revive_after=2).train(train), make(revive_after=2).train(train)
    forward = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    update = torch.compile(compiled.update, fullgraph=True, backend="aot_eager")
    for t in range(3):
        generator = torch.Generator().manual_seed(t)
        z, mask = torch.randn(2, 3, 30, generator=generator), torch.rand(2, 30, generator=generator) < 0.8
        left, right = eager(z, mask), forward(z, mask)
        assert torch.equal(left.codes[0], right.codes[0])
        assert torch.equal(left.vectors, right.vectors)
        eager.update(left.pending)
        update(right.pending)
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, msg=name)


@pytest.mark.parametrize(("field", "value"), [("dim", 1), ("decay", 1.1), ("num_codes", 0), ("revive_after", 0)])
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    """In one dimension there are two directions, whatever the number of codes."""
    with pytest.raises(ConfigError, match=field):
        structure({field: value}, CosineQuantizer.Config)
