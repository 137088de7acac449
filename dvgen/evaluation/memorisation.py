"""Whether samples repeat the training set. Diagnostics: no number tells memorising from chance for certain."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.distances import networks, over_networks
from dvgen.evaluation.frechet import frechet_key
from dvgen.evaluation.measurement import Key, Measurement, sampler_protocol
from dvgen.evaluation.neighbours import check_tables, distance_blocks
from dvgen.evaluation.statistics import share_interval
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.features import Features


def memorised(
    features: Features,
    samples: Tensor,
    train: Tensor,
    held_out: Tensor,
    reference_id: str,
    about: Mapping[str, str],
    *,
    bits: int = 8,
) -> Measurement:
    """The share of samples whose nearest training signal is closer than their nearest held-out one, a diagnostic; ideal: 0.5.

    samples (n, members * dim), train and held_out (m, members * dim): feature tables; the first rows of the longer of the
    last two are used, for more rows reach nearer. Equal distances count half. The mean over the networks, with Wilson's
    interval over samples. reference_id, about and bits as `distances` takes them.
    Raises ShapeError for tables that are not of these features, and ConfigError for an empty one.
    """
    m = min(len(train), len(held_out))
    tables = (networks(features, table) for table in (samples, train[:m], held_out[:m]))
    shares = [_closer_to_train(*network) for network in zip(*tables, strict=True)]
    n = len(samples)
    key = frechet_key(features, reference_id, (m, n), about, bits=bits)
    protocol = dict(key.protocol) | {"estimator": "nearest neighbour, float64", "kind": "diagnostic"}
    mean = sum(shares) / len(shares)
    return over_networks(shares, n, Key(f"memorised[{features.label}]", "", protocol), share_interval(mean * n, n))


def duplicates(samples: Codes, train: Iterable[Codes], codes_hash: str, about: Mapping[str, str]) -> Measurement:
    """The share of samples whose codes, all levels together, are exactly those of a training signal; a diagnostic.

    samples: (n, *grid) int64 a level. train: batches of them, for all training codes may be too many to be in memory.
    codes_hash: identity of the training codes. about: how samples were drawn. Wilson's interval over samples; compare it with
    the share of held-out codes, which is not 0 where maps are few. Raises ShapeError for codes of different levels.
    """
    drawn, known, m = Counter(_rows(samples)), set[bytes](), 0
    for batch in train:
        if [code.shape[1:] for code in samples] != [code.shape[1:] for code in batch]:
            raise ShapeError(
                "expected codes of the same levels, "
                f"got {[tuple(code.shape) for code in samples]} and {[tuple(code.shape) for code in batch]}"
            )
        known.update(row for row in _rows(batch) if row in drawn)
        m += len(batch[0])
    found, n = sum(drawn[row] for row in known), len(samples[0])
    protocol = {"codes": codes_hash, "n train": str(m), "n measured": str(n), "kind": "diagnostic"}
    key = Key("duplicates", "", protocol | sampler_protocol(about))
    return Measurement(found / n, share_interval(found, n), n, key)


@torch.no_grad()
def nearest(samples: Tensor, train: Tensor) -> Tensor:
    """The row of train (m, dim) that is nearest to each of samples (n, dim), the first of equals: (n,) int64."""
    return _nearest(samples, train)[1]


def _closer_to_train(samples: Tensor, train: Tensor, held_out: Tensor) -> float:
    to_train, to_held_out = (_nearest(samples, table)[0] for table in (train, held_out))
    return float(((to_train < to_held_out).double() + (to_train == to_held_out).double() / 2).mean())


def _nearest(samples: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (n,) float64 to the nearest of `others`, and its rows (n,) int64."""
    check_tables(samples, others)
    if not len(samples) or not len(others):
        raise ConfigError(f"expected at least one signal of each kind, got {len(samples)} samples and {len(others)} others")
    found = [apart.min(dim=1) for _, apart in distance_blocks(samples, others)]
    return torch.cat([block.values for block in found]), torch.cat([block.indices for block in found])


def _rows(codes: Codes) -> Iterator[bytes]:
    """One key a signal, equal only for equal codes."""
    return (row.tobytes() for row in torch.cat([code.flatten(1) for code in codes], dim=1).numpy())
