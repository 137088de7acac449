"""Negative log-likelihood of held-out codes, its units, and the entropy below which it cannot fall."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from attrs import frozen
from einops import rearrange, reduce
from numpy.typing import NDArray
from torch import Tensor

from dvgen.errors import IntegrityError, NonFiniteError, ShapeError
from dvgen.evaluation.measurement import Key, Measurement
from dvgen.evaluation.statistics import mean_interval
from dvgen.interfaces.codes import Codes, Level

Floats = NDArray[np.float64]
LogProbs = Callable[[Codes, Tensor | None], tuple[Tensor, ...]]
"""Codes and their labels (b,) to log-probabilities in nats, (b, *grid) a level, as `Prior.forward` gives them."""

ALL = "all"
"""What stands for the name of a level in the protocol of a likelihood of all levels together."""
UNITS = {"nll": "nats/code", "bits_code": "bits/code", "bits_image": "bits/image", "code_rate": "bits/value"}
"""Of the likelihoods by name."""
ROUNDING = 1e-4
"""Relative error allowed to a float32 likelihood: a term is wrong by about 1e-6, a few hundred of them add to less than
1e-5 of their sum, and ten times that leaves room for low-precision matrix products. A leak shows as tens of percent."""


@torch.no_grad()
def per_image_nats(log_probs: LogProbs, codes: Codes, labels: Tensor | None, batch: int) -> Floats:
    """Negative log-probability in nats of every image, (levels, n): the sum over the positions of a level, in float64.

    codes: (n, *grid) int64 a level. labels: (n,) or None. The model must be in evaluation mode; masked codes cost 0.
    Raises NonFiniteError for a value that is not finite, IntegrityError for a probability above 1.
    """
    batches = []
    for start in range(0, codes[0].shape[0], batch):
        part = tuple(code[start : start + batch] for code in codes)
        terms = log_probs(part, None if labels is None else labels[start : start + batch])
        _check_terms(terms, part, start)
        batches.append(torch.stack([-reduce(term.double(), "b ... -> b", "sum").cpu() for term in terms]))
    return torch.cat(batches, dim=1).numpy()


def _check_terms(terms: tuple[Tensor, ...], codes: Codes, start: int) -> None:
    if [term.shape for term in terms] != [code.shape for code in codes]:
        got = ", ".join(str(tuple(term.shape)) for term in terms)
        wanted = ", ".join(str(tuple(code.shape)) for code in codes)
        raise ShapeError(f"expected one log-probability a code, of shapes {wanted}, got {got}")
    for level, term in enumerate(terms):
        finite = term.isfinite().flatten(1).all(dim=1)
        if not bool(finite.all()):
            image = start + int(finite.logical_not().nonzero()[0])
            raise NonFiniteError(f"the log-probability of image {image}, level {level}, is not finite")
        if term.numel() and float(term.max()) > ROUNDING:
            raise IntegrityError(f"level {level}: a log-probability of {float(term.max()):.4g} nats; a probability is above 1")


def code_map_entropy(codes: Codes, labels: Tensor | None = None) -> float:
    """Exact entropy in nats of the code map of one image drawn uniformly from these: a set that is the whole distribution.

    codes: (n, *grid) a level; a map is the codes of all levels together. labels: (n,); given, the entropy is conditional,
    H(codes | label) = H(codes, label) - H(label).
    """
    maps = torch.cat([rearrange(code, "n ... -> n (...)") for code in codes], dim=1).cpu().numpy()
    if labels is None:
        return _entropy(maps)
    label = labels.cpu().numpy()[:, None]
    return _entropy(np.concatenate([maps, label], axis=1)) - _entropy(label)


def _entropy(rows: NDArray[np.int64]) -> float:
    _, counts = np.unique(rows, axis=0, return_counts=True)
    return math.log(len(rows)) - float((counts * np.log(counts)).sum()) / len(rows)


def excess_nats(nll_per_image: float, entropy: float) -> float:
    """KL(truth || prior) in nats an image: the mean negative log-probability over the whole set, less its entropy."""
    return nll_per_image - entropy


def check_floor(excess: float, entropy: float, name: str) -> None:
    """Raise IntegrityError when `excess` is negative by more than rounding explains: no honest prior can be.

    name: whose excess it is, for the message.
    """
    # the constant is for an entropy of 0, where a relative tolerance allows nothing
    if excess < -(ROUNDING * entropy + 1e-6):
        raise IntegrityError(
            f"{name}: {entropy + excess:.6g} nats an image is below the exact entropy of {entropy:.6g}: "
            "the prior sees what it should predict, so its causality is broken"
        )


@frozen(kw_only=True)
class LikelihoodProtocol:
    """Under what a likelihood was measured.

    codes: identity (a hash) of tokenizer, data and transform. split: such as "test". conditioning: "none", "labels", ...
    bounds: names of the levels whose prior gives only a lower bound of the log-probability, never ranked with exact ones;
    one such level makes a bound of all levels together.
    """

    codes: str
    split: str
    conditioning: str = "none"
    bounds: frozenset[str] = frozenset()

    def key(self, unit: str, level: str = ALL, metric: str | None = None) -> Key:
        """The key of a value in `unit` ("nats/code", ...) of one level, or of all; `metric` defaults to the unit."""
        bound = bool(self.bounds) if level == ALL else level in self.bounds
        protocol = {"codes": self.codes, "split": self.split, "conditioning": self.conditioning, "level": level}
        return Key(metric or unit, unit, protocol | {"likelihood": "bound" if bound else "exact"})


def likelihoods(
    nats: Floats, levels: Sequence[Level], protocol: LikelihoodProtocol, values: int | None = None
) -> dict[str, Measurement]:
    """By name, of all levels together: nll (nats/code), bits_code and bits_image; and code_rate (bits/value) given `values`.

    Of several levels also, for each: nll/<level> (nats/code) and bits_image/<level>, whose sum over levels is bits_image.
    nats: (levels, n) of `per_image_nats`; intervals are over images. Every position counts as a code, masked ones too.
    values: how many numbers a signal has (channels times size). The code rate is what the codes cost, spread over them: the
    rate of a lossy code, to be read with its distortion, and never the likelihood of an image.
    """

    def key(name: str) -> Key:
        unit, _, level = name.partition("/")
        return protocol.key(UNITS[unit], level or ALL, metric="code rate" if unit == "code_rate" else None)

    return {name: _measured(images, key(name)) for name, images in in_every_unit(nats, levels, values).items()}


def in_every_unit(nats: Floats, levels: Sequence[Level], values: int | None = None) -> dict[str, Floats]:
    """Of every image, (n,), what `likelihoods` measures the mean of, by the same names."""
    length = sum(level.length for level in levels)
    image = nats.sum(axis=0)
    bits = image / math.log(2)
    found = {"nll": image / length, "bits_code": bits / length, "bits_image": bits}
    if values is not None:
        found["code_rate"] = bits / values
    for level, row in zip(levels, nats, strict=True) if len(levels) > 1 else ():
        found |= {f"nll/{level.name}": row / level.length, f"bits_image/{level.name}": row / math.log(2)}
    return found


def excess_over(nats_model: Floats, log_prob_true: Floats, length: int, protocol: LikelihoodProtocol) -> Measurement:
    """mean(log p_true - log p_model) over images in nats/code: an unbiased KL(truth || prior) when the images are its draws.

    nats_model, log_prob_true: (n,), paired by image, so that what is rare for both cancels. length: codes of an image.
    Raises NonFiniteError for an image that the truth calls impossible.
    """
    if nats_model.shape != log_prob_true.shape or nats_model.ndim != 1:
        raise ShapeError(f"expected one value an image of both, got shapes {nats_model.shape} and {log_prob_true.shape}")
    above = nats_model + log_prob_true
    if not np.isfinite(above).all():
        image = int(np.isfinite(above).argmin())
        raise NonFiniteError(f"image {image}: {log_prob_true[image]} nats of the truth and {-nats_model[image]} of the prior")
    return _measured(above / length, protocol.key("nats/code", metric="excess"))


def check_not_below(excess: Measurement, name: str) -> None:
    """Raise IntegrityError when the whole interval of an excess (nats/code) lies below 0 by more than rounding explains.

    name: whose excess it is, for the message. In expectation no prior is better than the truth on draws of the truth; of
    honest ones almost as good as the truth one in forty may be refused, for its interval is of 95 %.
    """
    if excess.interval is not None and excess.interval[1] < -ROUNDING:
        low, high = excess.interval
        raise IntegrityError(
            f"{name}: an excess of {excess.value:.6g} nats/code [{low:.6g}, {high:.6g}] over the truth is below 0, where no "
            "honest prior can be: it sees what it should predict. Check that its output at a code does not depend on that "
            "code or a later one"
        )


def _measured(values: Floats, key: Key) -> Measurement:
    mean, interval = mean_interval(values)
    return Measurement(mean, interval, len(values), key)
