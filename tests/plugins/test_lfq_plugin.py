"""LFQ: signs as codes, the nearest corner of the cube, and entropies against an enumeration of all codes."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dvgen.blocks.rows import to_rows
from dvgen.config import structure
from dvgen.errors import ConfigError, ShapeError
from dvgen_binary.entropy import bit_entropy, mean_entropies
from dvgen_binary.lfq import LFQQuantizer


def make(**fields: float) -> LFQQuantizer:
    return LFQQuantizer(LFQQuantizer.Config(**fields))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows_of(z: Tensor) -> Tensor:
    return z.movedim(1, -1).reshape(-1, z.shape[1])


def corners(bits: int, size: float = 1.0) -> Tensor:
    """All codes' vectors (2^bits, bits) in the order of the codes: bit i of the code is 1 where channel i is negative."""
    return torch.tensor(
        [[-size if code >> i & 1 else size for i in range(bits)] for code in range(2**bits)], dtype=torch.float64
    )


def enumerated(z: Tensor, table: Tensor, tau: float) -> Tensor:
    """softmax(-tau |z - c|^2) over all codes: (n, k)."""
    return (-tau * (z.unsqueeze(1) - table).square().sum(dim=2)).softmax(dim=1)


def entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_codes_are_bits_and_vectors_the_corners(bits: int) -> None:
    vectors = make(bits=bits).decode((torch.arange(2**bits).unsqueeze(0),))[0].T
    assert torch.equal(vectors.double(), corners(bits))
    assert make(bits=bits).encode(vectors.T.unsqueeze(0))[0].tolist() == [list(range(2**bits))]


def test_the_code_is_the_nearest_corner_ties_to_the_lowest() -> None:
    """By enumeration: every tie of the cube, at a zero of either sign, goes to the lowest code; a tie there is only at zero."""
    z = torch.tensor(list(itertools.product([-2.0, -1.0, -0.0, 0.0, 0.5, 3.0], repeat=3)), dtype=torch.float64)
    distances = (z.unsqueeze(1) - corners(3)).square().sum(dim=2)  # exact: small multiples of 1/4
    assert torch.equal(make(bits=3).encode(z.T.unsqueeze(0))[0][0], distances.argmin(dim=1))
    assert int(make(bits=3).encode(torch.tensor([0.0, -1e-30, -0.0]).view(1, 3, 1))[0]) == 2


def test_codes_of_62_bits_are_exact() -> None:
    """Sums of floats would be wrong from 2^24 or 2^53 on; and nothing may need memory for all codes."""
    quantizer = make(bits=62)
    numbers = [0, 1, 2**53 + 1, 2**62 - 1, 1234567890123456789]
    vectors = quantizer.decode((torch.tensor([numbers]),))
    assert [[int(v < 0) for v in row] for row in vectors[0].T] == [[number >> i & 1 for i in range(62)] for number in numbers]
    out = quantizer(vectors)
    assert out.codes[0].tolist() == [numbers]
    assert torch.equal(out.vectors, vectors)
    assert "counts_0" not in out.stats
    assert float(out.stats["perplexity_0"]) == pytest.approx(5)
    with pytest.raises(ShapeError, match="must be in"):
        quantizer.decode((torch.tensor([[2**62]]),))


def test_factors_are_consecutive_groups_of_bits() -> None:
    z = drawn(2, 5, 4).float()
    whole, split = make(bits=5), make(bits=5, factors=2)
    assert [level.num_codes for level in split.levels((4,))] == [8, 4]
    low, high = split.encode(z)
    assert torch.equal(low + 8 * high, whole.encode(z)[0])
    assert torch.equal(split.decode((low, high)), whole(z).vectors)
    assert (split.decode((low,))[:, 3:] == 0).all()


@pytest.mark.parametrize("train", [True, False])
def test_gradient_passes_straight_through_bit_for_bit(train: bool) -> None:
    z, upstream = drawn(2, 3, 4).float().requires_grad_(), drawn(2, 3, 4, seed=1).float()
    make(bits=3).train(train)(z).vectors.backward(upstream)
    assert torch.equal(z.grad, upstream)


@pytest.mark.parametrize("tau", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("bits", [1, 3, 6])
def test_losses_equal_the_enumeration_of_all_codes(bits: int, tau: float) -> None:
    """The entropy of a feature's code, that of the mean distribution with one group, commitment; each under its own weight."""
    z, mask = drawn(3, bits, 7), torch.rand(3, 7, generator=torch.Generator().manual_seed(2)) < 0.7
    quantizer = make(bits=bits, group=bits, inverse_temperature=tau, entropy=0.3, diversity=0.5, commitment=0.7)
    out = quantizer(z, mask)
    losses = out.losses
    kept = rows_of(z)[mask.reshape(-1)]
    probabilities = enumerated(kept, corners(bits), tau)
    sample, batch = entropy(probabilities).mean(), entropy(probabilities.mean(dim=0))
    torch.testing.assert_close(losses["entropy_sample"], 0.3 * sample)
    torch.testing.assert_close(losses["entropy_batch"], -0.3 * 0.5 * batch)
    torch.testing.assert_close(
        torch.stack([out.stats["entropy_sample"], out.stats["entropy_batch"]]), torch.stack([sample, batch])
    )
    torch.testing.assert_close(losses["commitment"], 0.7 * (kept.abs() - 1).square().mean())
    assert 0 <= float(sample) <= float(batch) <= bits * math.log(2)


@pytest.mark.parametrize("group", [1, 2, 3, 6])
def test_groups_bound_the_entropy_of_the_mean_from_above(group: int) -> None:
    """The sum over groups of the entropies of their marginals, from the enumeration; no less than the joint entropy."""
    # two bits that say nearly the same: what single bits cannot see
    z = drawn(3000, 6)
    z[:, 1] = z[:, 0] + 0.1 * z[:, 1]
    _, found = mean_entropies(to_rows(z.T.unsqueeze(0), 6), 4 * z, group, training=False)
    joint = enumerated(z, corners(6), 1.0).mean(dim=0).view(*(2,) * 6)  # the last bit is the slowest: axis 5 - i is bit i
    others = [[5 - i for i in range(6) if i // group != k] for k in range(6 // group)]
    marginals = [joint.sum(dim=axes) if axes else joint for axes in others]
    torch.testing.assert_close(found, torch.stack([entropy(m.flatten()) for m in marginals]).sum())
    total = entropy(joint.flatten())
    assert float(found) >= float(total) - 1e-12
    assert (float(found) - float(total) > 0.1) == (group == 1)


def test_entropy_of_a_bit_is_safe_and_exact() -> None:
    """softplus(x) - x sigmoid(x) cancels for large x; the tail is (1 + x) exp(-x), and no value or gradient is NaN."""
    log_odds = torch.tensor([0.0, 1.0, -1.0, 30.0, -30.0, 1e4, -1e30], dtype=torch.float32).requires_grad_()
    values = bit_entropy(log_odds)
    tail = 31 * math.exp(-30)
    one = math.log1p(math.e) - math.e / (1 + math.e)
    expected = torch.tensor([math.log(2), one, one, tail, tail, 0.0, 0.0])
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=0.0)
    values.sum().backward()
    reference = torch.tensor([0.0, 1.0, -1.0])
    slope = -reference * reference.sigmoid() * (-reference).sigmoid()
    torch.testing.assert_close(log_odds.grad[:3], slope)
    assert log_odds.grad.isfinite().all()


def test_a_bit_that_never_changes_has_finite_gradients() -> None:
    """Its mean probability underflows to zero, where the slope of -p log p is infinite."""
    z = torch.full((2, 2, 3), 1e4, requires_grad=True)
    losses = make(bits=2, inverse_temperature=100.0, group=2)(z).losses
    (losses["entropy_sample"] + losses["entropy_batch"]).backward()
    assert losses["entropy_sample"] == 0
    assert losses["entropy_batch"] == 0
    assert (z.grad == 0).all()


def test_gradients_of_the_losses_are_those_of_finite_differences() -> None:
    quantizer = make(bits=4, group=2)

    def losses(z: Tensor) -> tuple[Tensor, ...]:
        return tuple(quantizer(z).losses.values())

    assert torch.autograd.gradcheck(losses, drawn(2, 4, 3).requires_grad_())


def test_a_step_against_the_losses_spreads_the_codes_and_sharpens_each() -> None:
    """The signs of the two entropies: a feature becomes surer of its code, and a bit that is always 0 is drawn to 1."""
    z = (0.3 + 0.1 * drawn(1, 1, 50)).requires_grad_()
    losses = make(bits=1)(z).losses
    (sharper,) = torch.autograd.grad(losses["entropy_sample"], z, retain_graph=True)
    (spread,) = torch.autograd.grad(losses["entropy_batch"], z)
    assert (sharper[z > 0] < 0).all()
    assert (spread > 0).all()


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that a tensor had."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            self.most = max(self.most, value.numel() if isinstance(value, Tensor) else 0)
        return out


def test_memory_does_not_grow_with_the_number_of_codes() -> None:
    """18 bits and 8192 features: no tensor beyond a probability for either value of each bit, backward included."""
    n, bits = 8192, 18
    z = torch.randn(1, bits, n, requires_grad=True)
    quantizer = make(bits=bits, factors=2)
    with LargestTensor() as seen:
        torch.stack(list(quantizer(z).losses.values())).sum().backward()
    assert seen.most <= 2 * n * bits


@pytest.mark.parametrize("train", [True, False])
def test_compiles_without_a_graph_break(train: bool) -> None:
    quantizer = make(bits=4, factors=2, group=2).train(train)
    z, mask = torch.randn(2, 4, 3), torch.tensor([[True, False, True], [True] * 3])
    out = torch.compile(quantizer, fullgraph=True, backend="aot_eager")(z, mask)
    expected = quantizer(z, mask)
    assert torch.equal(out.vectors, expected.vectors)
    assert all(torch.equal(a, b) for a, b in zip(out.codes, expected.codes, strict=True))
    for name, loss in expected.losses.items():
        torch.testing.assert_close(out.losses[name], loss)


RANKS = """
import os, sys, torch
import torch.distributed as dist
from torch import multiprocessing

sizes = [5, 2, 0]

def features():
    return torch.randn(1, 4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

def entropies(quantizer, z):
    losses = quantizer(z).losses
    return losses["entropy_sample"] + losses["entropy_batch"]

def work(rank, store):
    from dvgen_binary.lfq import LFQQuantizer
    quantizer = LFQQuantizer(LFQQuantizer.Config(bits=4, group=2))
    whole = features().requires_grad_()
    expected = entropies(quantizer, whole)
    expected.backward()
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=len(sizes))
    mine = slice(sum(sizes[:rank]), sum(sizes[:rank + 1]))
    part = whole.detach()[:, :, mine].clone().requires_grad_()
    found = entropies(quantizer, part)
    torch.testing.assert_close(found, expected)
    found.backward()
    # gradients of parameters are averaged over ranks, so that a rank's own are as many times as large
    torch.testing.assert_close(part.grad / len(sizes), whole.grad[:, :, mine])
    if rank == 0:
        entropies(quantizer.eval(), part)
    dist.barrier()
    dist.destroy_process_group()

if __name__ == "__main__":
    multiprocessing.spawn(work, (sys.argv[1],), nprocs=len(sizes))
"""


@pytest.mark.slow
def test_ranks_of_any_size_have_the_entropies_of_the_whole_batch(tmp_path: Path) -> None:
    """Five, two and no features on three ranks; value and gradients are those of one process. Evaluation waits for nobody."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "store")],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"bits": 0}, "bits"),
        ({"bits": 63}, "raise factors"),
        ({"bits": 4, "factors": 5}, "lower factors"),
        ({"bits": 6, "group": 4}, "divisor"),
        ({"bits": 34, "group": 17}, "group"),
        ({"inverse_temperature": 0.0}, "inverse_temperature"),
        ({"entropy": -0.1}, "entropy"),
        ({"commitment": -1.0}, "commitment"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        structure(fields, LFQQuantizer.Config)
