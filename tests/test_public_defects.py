"""Defects of public code, each of which changes results in silence: none is here, and each, planted, is found.

The nine were found by reading the code named in each docstring. `planted`: the same check on a version of ours that has the
defect. Those of trainers and samplers are in test_public_defects_of_training.py.
"""

from typing import Any

import pytest
import torch
from public_defects import Legacy, NoDecode, Noisy, Overwritten, Smoothed, ZeroStart
from torch import Tensor

from dvgen.assembly import build
from dvgen.config import unstructure
from dvgen.discovery import discover
from dvgen.experiment import Choice
from dvgen.interfaces.quantizer import Quantizer
from dvgen_ema.cosine import CosineQuantizer
from dvgen_ema.quantizer import EMAQuantizer

REGISTRY = discover().registry
QUANTIZERS = REGISTRY.names("quantizer")
COMMITTED = [name for name in QUANTIZERS if hasattr(REGISTRY.load("quantizer", name).tiny(), "commitment")]


def made(name: str, **fields: Any) -> Any:
    """A tiny quantizer of that name in float64, the same on every call."""
    torch.manual_seed(0)
    tiny = unstructure(REGISTRY.load("quantizer", name).tiny())
    return build(REGISTRY, "quantizer", Choice(use=name, fields=tiny | fields)).double()


def rows(n: int, dim: int, scale: float = 1.0, seed: int = 1) -> Tensor:
    return scale * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quantize(quantizer: Quantizer, z: Tensor) -> Any:
    """What `forward` returns of rows (n, d)."""
    return quantizer(z.T.unsqueeze(0))


def update(quantizer: Quantizer, z: Tensor, times: int = 1) -> None:
    for _ in range(times):
        quantizer.update(quantize(quantizer, z).pending)


def assert_beta_weighs_the_commitment(quantizers: list[Any]) -> None:
    """quantizers: with weights 0, 1 and 2, otherwise the same. The gradient of z is linear in it, all others constant."""
    found = []
    for quantizer in quantizers:
        z = rows(12, quantizer.dim).requires_grad_()
        loss = sum(quantize(quantizer, z).losses.values())
        found.append(torch.autograd.grad(loss, [z, *quantizer.parameters()], materialize_grads=True))
    (none, *others), (once, *others1), (twice, *others2) = found
    assert float((once - none).abs().max()) > 1e-3
    torch.testing.assert_close(twice - none, 2 * (once - none))
    for zero, one, two in zip(others, others1, others2, strict=True):
        torch.testing.assert_close(zero, one)
        torch.testing.assert_close(zero, two)


@pytest.mark.parametrize("name", COMMITTED)
def test_defect_1_beta_weighs_the_encoders_term(name: str) -> None:
    """taming-transformers, VectorQuantizer with legacy=True (and diffusers, 1d-tokenizer after it): beta on the codebook's."""
    assert_beta_weighs_the_commitment([made(name, commitment=beta) for beta in (0.0, 1.0, 2.0)])


def test_defect_1_planted() -> None:
    torch.manual_seed(0)
    codebook = rows(4, 3)
    quantizers = [Legacy(Legacy.Config(num_codes=4, dim=3, commitment=beta)).double() for beta in (0.0, 1.0, 2.0)]
    for quantizer in quantizers:
        quantizer.load_state_dict({"codebook": codebook})
    with pytest.raises(AssertionError):
        assert_beta_weighs_the_commitment(quantizers)


def codes_used(kind: type[EMAQuantizer]) -> int:
    """Of 512 codes of width 64, after 10 updates on 8192 features N(0, 1/4) each, from Sonnet's initial codebook."""
    torch.manual_seed(0)
    quantizer = kind(kind.Config(num_codes=512, dim=64))
    for seed in range(10):
        update(quantizer, rows(8192, 64, 0.5, seed).float())
    return len(quantize(quantizer, rows(8192, 64, 0.5, 99).float()).codes[0].unique())


def test_defect_2_averages_that_start_at_zero_are_debiased() -> None:
    """rosinality/vq-vae-2-pytorch, pythae, MONAI: counts start at 0 and sums at e, so a code unused once is gone for good.

    With U(+-sqrt(3/64)) Sonnet's debiased averages used all 512 codes after 10 such steps, the others 26.
    """
    assert codes_used(EMAQuantizer) > 500
    assert codes_used(ZeroStart) < 50, "planted"


def revived(kind: type[EMAQuantizer]) -> Tensor:
    """The codebook (2, 2) when features around (10, 10) have stopped to come and those around 0 have not."""
    quantizer = kind(kind.Config(num_codes=2, dim=2, decay=0.9, revive_after=3)).double()
    quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    here = rows(64, 2, 0.1)
    update(quantizer, torch.cat([here, here + 10]), times=5)
    update(quantizer, here, times=12)
    return quantizer.codebook


def test_defect_3_a_revived_code_stays_where_it_was_put() -> None:
    """audiocraft, encodec (espnet PR 6284): the averages of before overwrite the new place in the same forward."""
    assert float(revived(EMAQuantizer).abs().max()) < 1
    assert float(revived(Overwritten).abs().max()) > 9, "planted"


@pytest.mark.parametrize("name", QUANTIZERS)
def test_defect_6_every_quantizer_can_be_made_and_decodes_its_codes(name: str) -> None:
    """taming-transformers: the EMA quantizer raises NameError when it is made; decode_code of Gumbel is not there."""
    assert_decodes(made(name))


def assert_decodes(quantizer: Any) -> None:
    quantized = quantize(quantizer.eval(), rows(12, quantizer.dim))
    torch.testing.assert_close(quantizer.decode(quantized.codes), quantized.vectors)


def repeats(quantizer: Any) -> bool:
    """Whether evaluation gives the same codes to the same features every time, those of `encode`."""
    z = rows(200, quantizer.dim)
    first, again = (quantize(quantizer.eval(), z).codes for _ in range(2))
    encoded = quantizer.encode(z.T.unsqueeze(0))
    return all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, again, encoded, strict=True))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_defect_7_codes_are_deterministic_in_evaluation(name: str) -> None:
    """taming-transformers, deep-vector-quantization, enhancing-transformers: Gumbel noise in evaluation too."""
    assert repeats(made(name))


def test_defect_6_planted() -> None:
    with pytest.raises(AttributeError):
        assert_decodes(NoDecode(NoDecode.tiny()).double())


def test_defect_7_planted() -> None:
    assert not repeats(Noisy(Noisy.tiny()).double())


def averages(kind: Any) -> tuple[Tensor, Tensor]:
    """Counts after 20 updates on the same features, and what they are by the definition: (1 - d^t) times those of a batch."""
    quantizer = kind(kind.Config(num_codes=4, dim=4, decay=0.9)).double()
    quantizer.codebook.copy_(torch.eye(4))
    chosen = torch.tensor([0] * 5 + [1] * 3 + [2])  # the fourth code is never chosen
    update(quantizer, torch.eye(4, dtype=torch.float64)[chosen], times=20)
    return quantizer.counts, (1 - 0.9**20) * torch.tensor([5.0, 3.0, 1.0, 0.0], dtype=torch.float64)


def test_defect_9_counts_are_not_overwritten_by_smoothed_ones() -> None:
    """pythae: the smoothed cluster_size is kept, so that smoothing compounds and codes that are not used count."""
    for kind in (EMAQuantizer, CosineQuantizer):
        torch.testing.assert_close(*averages(kind), rtol=1e-10, atol=0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(*averages(Smoothed), rtol=1e-10, atol=0)
