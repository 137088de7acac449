"""How drawn codes differ from held-out codes. No decoder and no features stand between, so that the prior alone is judged."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.special import entr

from dvgen.evaluation.measurement import Key, Measurement, sampler_protocol
from dvgen.evaluation.statistics import share_interval
from dvgen.evaluation.two_sample import TwoSample, recipe, two_sample_test
from dvgen.interfaces.codes import Codes, Level, check_codes

Patches = tuple[Tensor, ...]
"""Patches of one size: each of their codes (n, *places), views of the maps, for copies of large ones would fill the memory."""


def code_measurements(
    levels: Sequence[Level],
    samples: Codes,
    held_out: Codes,
    codes_hash: str,
    about: Mapping[str, str],
    pause: Callable[[], None],
) -> dict[str, Measurement]:
    """Of every level: js_1x1, js_pairs and js_2x2 (Jensen-Shannon divergences of patches of codes), and two_sample.

    samples, held_out: (n, *grid) and (m, *grid) int64 a level. codes_hash: identity of the held-out codes. about: how samples
    were drawn. pause: called between steps of work, and may raise to stop. Divergences are biased upward by few maps, the
    more the more codes there are: compare them with those of held-out against held-out codes, of the same n and m.
    A level of one position has no pairs, one that is not two positions wide and high no 2x2, and fewer than four maps have no
    two-sample test; these are left out. Raises ShapeError for codes that are not of these levels.
    """
    for codes in (samples, held_out):
        check_codes(codes, levels)
    found: dict[str, Measurement] = {}
    for level, drawn, known in zip(levels, samples, held_out, strict=True):
        n, m = len(drawn), len(known)
        protocol = {"codes": codes_hash, "level": level.name, "n reference": str(m), "n measured": str(n)}
        protocol |= sampler_protocol(about)
        for patch, value in divergences(drawn, known, level.num_codes).items():
            found[f"{patch}/{level.name}"] = Measurement(value, None, n, Key(patch, "nats", protocol))
        pause()
        if min(n, m) >= 4:
            test = two_sample_test(level, drawn, known, pause)
            found[f"two_sample/{level.name}"] = _accuracy(test, protocol | {"network": recipe(level)})
    return found


def divergences(samples: Tensor, held_out: Tensor, num_codes: int) -> dict[str, float]:
    """Jensen-Shannon divergences in nats between the patches of two sets of code maps (n, *grid) and (m, *grid), by name.

    js_1x1: of single codes. js_pairs: of neighbours along each axis, the mean over axes. js_2x2: of squares, on grids of two
    axes. Patches of all positions are one population.
    """
    patches = [_patches(codes) for codes in (samples, held_out)]
    found: dict[str, float] = {}
    for name in patches[0]:
        rows = [_divergence(one, other, num_codes) for one, other in zip(*(side[name] for side in patches), strict=True)]
        found[name] = sum(rows) / len(rows)
    return found


def jensen_shannon(p: Tensor, q: Tensor) -> float:
    """H((p + q) / 2) - (H(p) + H(q)) / 2 in nats, between 0 and ln 2, of two histograms of counts (k,). Lin 1991."""
    p, q = p.double() / p.sum(), q.double() / q.sum()
    return max(0.0, float(entr((p + q) / 2).sum() - (entr(p).sum() + entr(q).sum()) / 2))


def _patches(codes: Tensor) -> dict[str, list[Patches]]:
    """Patches by the name of their divergence, one set of them a direction."""
    axes = [axis for axis in range(1, codes.ndim) if codes.shape[axis] > 1]
    found: dict[str, list[Patches]] = {"js_1x1": [(codes,)]}
    if axes:
        found["js_pairs"] = [_shifted(codes, axis) for axis in axes]
    if codes.ndim == 3 and len(axes) == 2:
        found["js_2x2"] = [tuple(corner for row in _shifted(codes, 1) for corner in _shifted(row, 2))]
    return found


def _shifted(codes: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """All but the last, and all but the first, along an axis: neighbours at equal places."""
    length = codes.shape[axis] - 1
    return codes.narrow(axis, 0, length), codes.narrow(axis, 1, length)


def _divergence(one: Patches, other: Patches, num_codes: int) -> float:
    """Of two sets of patches."""
    columns = (torch.cat([mine.flatten(), its.flatten()]) for mine, its in zip(one, other, strict=True))
    # renumbered after each column, for num_codes^size may be more than an int64 holds
    names = next(columns)
    for column in columns:
        names = torch.unique(names * num_codes + column, return_inverse=True)[1]
    size, first = int(names.max()) + 1, one[0].numel()
    return jensen_shannon(*(names[part].bincount(minlength=size) for part in (slice(first), slice(first, None))))


def _accuracy(test: TwoSample, protocol: Mapping[str, str]) -> Measurement:
    share, interval = test.right / test.n, share_interval(test.right, test.n)
    return Measurement(share, interval, test.n, Key("two-sample accuracy", "", protocol))
