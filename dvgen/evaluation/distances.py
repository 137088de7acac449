"""Every distance of a set of signals to a reference, from one table of features each."""

from collections.abc import Mapping, Sequence

from attrs import evolve
from torch import Tensor

from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.frechet import check_rows, frechet_distance, frechet_infinity, frechet_key
from dvgen.evaluation.kernel_distance import kernel_distance, kernel_interval, kernel_key
from dvgen.evaluation.measurement import Interval, Key, Measurement
from dvgen.evaluation.neighbours import BALL, WIDE_BALL, neighbours
from dvgen.interfaces.features import Features

MOST = 10_000
"""Rows that neighbours are looked for in: their time grows with the square of it."""


def distances(
    name: str,
    features: Features,
    reference: Tensor,
    measured: Tensor,
    about: Mapping[str, str],
    *,
    reference_id: str,
    bits: int,
) -> dict[str, Measurement]:
    """Frechet and kernel distance, precision, recall, density and coverage of one feature table by another.

    name: of the component, the last part of every measurement's name, such as fd/NAME. reference, measured: tables
    (n, members * dim) as `feature_table` makes them; a value is the mean over the networks of `features`, and its range theirs.
    about: how the measured set was drawn. reference_id: identity (a hash) of the reference signals. bits: what signals were
    rounded to. A metric that sets of these sizes have no value of is left out: fd with no more rows than features,
    fd_infinity as `frechet_infinity` says, neighbours with five rows or fewer, all with fewer than two.
    Raises ShapeError for tables that are not of these features.
    """
    pairs = list(zip(networks(features, reference), networks(features, measured), strict=True))
    sizes = (len(reference), len(measured))
    key = frechet_key(features, reference_id, sizes, about, bits=bits)
    found: dict[str, Measurement] = {}
    if min(sizes) > features.dim:
        found["fd"] = over_networks([frechet_distance(*pair) for pair in pairs], sizes[1], key)
    endless = [value for value in (frechet_infinity(*pair) for pair in pairs) if value is not None]
    if endless:
        found["fd_infinity"] = over_networks(endless, sizes[1], _infinity(key, features))
    if min(sizes) >= 2:
        values = [kernel_distance(*pair) for pair in pairs]
        interval = kernel_interval(sum(values) / len(values), pairs)
        kernel = kernel_key(features, reference_id, sizes, about, bits=bits)
        found["kd"] = over_networks(values, sizes[1], kernel, interval)
    if min(sizes) > WIDE_BALL:
        found |= _neighbours(features, pairs, reference_id, about, bits)
    return {f"{metric}/{name}": value for metric, value in found.items()}


def too_few(spaces: Mapping[str, Features], n: int) -> list[str]:
    """A line for each space where sets of n signals have no Frechet distance: "FID: n/a: ...", or "fd-NAME: n/a: ..."."""
    notes = []
    for name, features in spaces.items():
        try:
            check_rows(n, features.dim)
        except ConfigError as error:
            notes.append(f"{'FID' if features.official else f'fd-{name}'}: n/a: {error}")
    return notes


def networks(features: Features, table: Tensor) -> tuple[Tensor, ...]:
    """The tables (n, dim) of each network of `features`. Raises ShapeError for a table of another width."""
    if table.ndim != 2 or table.shape[1] != features.members * features.dim:
        raise ShapeError(
            f"features {features.label!r} have {features.members} x {features.dim} columns, "
            f"got a table of shape {tuple(table.shape)}"
        )
    return table.split(features.dim, dim=1)


def over_networks(values: Sequence[float], n: int, key: Key, interval: Interval | None = None) -> Measurement:
    """The mean over networks, and the range where there are several."""
    spread = (min(values), max(values)) if len(values) > 1 else None
    return Measurement(sum(values) / len(values), interval, n, key, spread)


def _infinity(key: Key, features: Features) -> Key:
    metric = "FID-infinity" if features.official else f"FD-infinity[{features.label}]"
    fit = "least squares in 1/n, 15 sizes of both sets, all disjoint subsets"
    return evolve(key, metric=metric, protocol=dict(key.protocol) | {"extrapolation": fit})


def _neighbours(
    features: Features, pairs: Sequence[tuple[Tensor, Tensor]], reference_id: str, about: Mapping[str, str], bits: int
) -> dict[str, Measurement]:
    """Of the first MOST rows: precision, recall, density and coverage, by name."""
    pairs = [(reference[:MOST], measured[:MOST]) for reference, measured in pairs]
    sizes = (len(pairs[0][0]), len(pairs[0][1]))
    key = frechet_key(features, reference_id, sizes, about, bits=bits)
    found = [neighbours(*pair) for pair in pairs]
    measurements = {}
    for metric, k in (("precision", BALL), ("recall", BALL), ("density", WIDE_BALL), ("coverage", WIDE_BALL)):
        protocol = dict(key.protocol) | {"estimator": f"balls to neighbour {k}, {'closed' if k == BALL else 'open'}, float64"}
        own = Key(f"{metric}[{features.label}]", "", protocol, higher_is_better=True)
        measurements[metric] = over_networks([getattr(value, metric) for value in found], sizes[1], own)
    return measurements
