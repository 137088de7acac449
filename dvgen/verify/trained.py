"""Checks of a trained model on held-out codes: they are compressed to as few bits as it tells, and the context helps.

Shapes: n maps, l levels.
"""

import copy
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from dvgen.code_model import CodeModel
from dvgen.errors import Stopped
from dvgen.evaluation.nll import Floats, per_image_nats
from dvgen.evaluation.statistics import mean_interval
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.context import Context
from dvgen.interfaces.prior import Prior
from dvgen.verify.checks import Check
from dvgen.verify.codec import HEADER, read_codes, why_no_codec, write_codes
from dvgen.verify.range_coder import PRECISION

CODEC, CONTEXT = "codes are compressed to their likelihood, and read again", "the context makes codes likelier"

SLACK = 0.001
"""Share by which a file may be longer or shorter than the likelihood: rounding is 1e-7 of it, so what is more is a likelihood
that is not that of the codes one after the other."""
ENDING = 16
"""Bits that it may be longer or shorter beside: the last byte of the one message that all maps are, and rounding."""

CODES = 4096
"""Codes of the maps that are written, and one map at least: each takes two steps of the model, in float64."""

IMAGES = 512
"""Held-out maps whose context is exchanged; more make the interval no more telling."""
BATCH = 64


def verify_trained(
    model: CodeModel, codes: Codes, labels: Tensor | None, maps: int, pause: Callable[[], None] = lambda: None
) -> tuple[Check, ...]:
    """Checks 6 and 8b of a trained model: the first `maps` of these codes are written and read; 0 verifies nothing.

    Fewer of large ones: of all levels at most CODES codes, or one map.
    codes: held-out, (n, *grid) int64 a level. labels: (n,) when the model was trained with labels. A context that makes no
    difference at all fails; one that makes too little to be told from none does not, for there may be nothing in it.
    `pause` is called before every code that is written or read, and may raise Stopped.
    """
    if maps == 0:
        return ()
    maps = min(maps, max(1, CODES // sum(level.length for level in model.levels)))
    few = tuple(code[:maps].cpu() for code in codes)
    return (
        verify_codec(model, few, None if labels is None else labels[:maps].cpu(), pause),
        verify_context(model, codes, labels, must_help=False),
    )


def verify_codec(model: CodeModel, codes: Codes, labels: Tensor | None, pause: Callable[[], None] = lambda: None) -> Check:
    """Check 6: a range coder writes the codes of all levels with the model's own probabilities, and reads them exactly.

    A copy of the model does it, on the CPU in float64: writing and reading must find the same probabilities to the last bit,
    which a GPU does not promise, and the likelihood, of all places at once, must be that of the steps to rounding.
    """
    why = why_no_codec(model)
    if why is not None:
        return Check("6", CODEC, None, why)
    try:
        written = _written(copy.deepcopy(model).cpu().double().eval(), codes, labels, pause)
    except Stopped:
        raise
    except Exception as error:  # it is the prior's, whatever it is
        return Check("6", CODEC, False, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Check("6", CODEC, written.right, written.told(model.levels))


def verify_context(model: CodeModel, codes: Codes, labels: Tensor | None, *, must_help: bool) -> Check:
    """Check 8b: with the labels, or the coarser codes, of other maps, the negative log-likelihood rises.

    The maps are compared one by one, by a t-interval of 95 %. must_help: whether it fails, rather than tells nothing, where
    the rise is not certain.
    """
    few = tuple(code[:IMAGES] for code in codes)
    effects = [_effect(*each) for each in _exchanged(model, few, None if labels is None else labels[:IMAGES])]
    if not effects:
        return Check("8b", CONTEXT, None, "there is no context: no labels, one level, or only one code")
    verdicts = [effect.helps if effect.helps is not None or not must_help else False for effect in effects]
    passed = False if False in verdicts else None if None in verdicts else True
    return Check("8b", CONTEXT, passed, "; ".join(effect.told for effect in effects))


@frozen
class _Written:
    """What became of the codes: their likelihood in bits, the same with no code above PRECISION bits, the file, and whether
    they came back.
    """

    maps: int
    bits: float
    least: float
    size: int
    same: bool

    @property
    def right(self) -> bool:
        coded = self.size - 8 * HEADER.size
        return self.same and (1 - SLACK) * self.least - ENDING <= coded <= (1 + SLACK) * self.bits + ENDING

    def told(self, levels: tuple[Level, ...]) -> str:
        grids = " + ".join("x".join(map(str, level.grid)) for level in levels)
        more = f" ({self.size / self.bits - 1:+.2%})" if self.bits else ""
        ending = "decoded exactly" if self.same else "decoded to OTHER codes"
        return f"{self.maps} maps {grids}: NLL {self.bits:.1f} bits, file {self.size} bits{more}, {ending}"


def _written(model: CodeModel, codes: Codes, labels: Tensor | None, pause: Callable[[], None]) -> _Written:
    bits, least = (
        float(per_image_nats(lambda *batch, rarest=rarest: tuple(t.clamp(min=rarest) for t in model(*batch)),  # type: ignore[misc]
                             codes, labels, BATCH).sum()) / math.log(2)
        for rarest in (-math.inf, -PRECISION * math.log(2))
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="dvgen-") as folder:
        path = Path(folder) / "codes.dvc"
        write_codes(path, model, codes, labels, pause)
        found = read_codes(path, model, labels, pause)
        size = 8 * path.stat().st_size
    same = all(torch.equal(one, other) for one, other in zip(found, codes, strict=True))
    return _Written(len(codes[0]), bits, least, size, same)


class _Effect(NamedTuple):
    """What another context changes: None where that is not certain; and in words."""

    helps: bool | None
    told: str


def _effect(name: str, before: Floats, after: Floats) -> _Effect:
    """before, after: nats of each map (n,) with its own context, and with another's."""
    difference = after - before
    mean, interval = mean_interval(difference)
    reach = math.nan if interval is None else (interval[1] - interval[0]) / 2
    told = f"without its {name} a map costs {mean:+.3g} +- {reach:.2g} nats"
    if not difference.any():
        return _Effect(False, f"{told}: they are ignored")
    return _Effect(True if interval and interval[0] > 0 else None, told)


def _exchanged(model: CodeModel, codes: Codes, labels: Tensor | None) -> Iterator[tuple[str, Floats, Floats]]:
    """What is exchanged, and the nats of each map before and after, for each context that differs between maps."""
    before = [_nats(part, codes, labels) for part in _parts(model)]
    if labels is not None and len(labels.unique()) > 1 and any(_can_differ(part) for part in _parts(model)):
        others = torch.empty_like(labels)
        order = labels.argsort()
        others[order] = labels[order].roll(len(order) // 2)  # of another class, as far as there are enough
        yield "labels", sum(before), sum(_nats(part, codes, others) for part in _parts(model))  # type: ignore[misc]
    for part, own in zip(_parts(model), before, strict=True):
        coarser = tuple(code.roll(1, dims=0) for code in codes[: part.first])
        if _can_differ(part) and any(not torch.equal(one, other) for one, other in zip(coarser, codes, strict=False)):
            yield f"coarser codes of {part.prior.levels[0].name}", own, _nats(part, coarser + codes[part.first :], labels)


class _Part(NamedTuple):
    """A prior of a code model, and the number of its first level."""

    prior: Prior
    first: int


def _parts(model: CodeModel) -> Iterator[_Part]:
    first = 0
    for prior in model.priors:
        if isinstance(prior, Prior):
            yield _Part(prior, first)
            first += len(prior.levels)


def _can_differ(part: _Part) -> bool:
    """Whether its codes have several values: the only code there is has probability 1 in any context."""
    return any(level.num_codes > 1 for level in part.prior.levels)


def _nats(part: _Part, codes: Codes, labels: Tensor | None) -> Floats:
    """Negative log-probability of the levels of one prior, (n,); codes of all levels, those before its own as context."""
    device = next(part.prior.parameters()).device
    last = part.first + len(part.prior.levels)

    def log_probs(batch: Codes, given: Tensor | None) -> tuple[Tensor, ...]:
        moved = tuple(code.to(device) for code in batch)
        context = Context(len(batch[0]), moved[: part.first], None if given is None else given.to(device))
        own = part.prior(moved[part.first :], context)
        return (*(torch.zeros_like(code, dtype=own[0].dtype) for code in moved[: part.first]), *own)

    nats = per_image_nats(log_probs, codes[:last], labels, BATCH)
    return np.asarray(nats.sum(axis=0))
