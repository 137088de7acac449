"""One table of features gives every distance: the mean over networks, their range, and a key that tells how."""

import pytest
import torch
from attrs import frozen
from torch import Tensor

from dvgen.errors import IncomparableError, ShapeError
from dvgen.evaluation import distances as module
from dvgen.evaluation.distances import distances, too_few
from dvgen.evaluation.frechet import frechet_distance, frechet_infinity
from dvgen.evaluation.kernel_distance import kernel_distance, kernel_interval
from dvgen.evaluation.measurement import Measurement, best
from dvgen.evaluation.neighbours import neighbours
from dvgen.interfaces.features import Features

ALL = {f"{metric}/own" for metric in ("fd", "fd_infinity", "kd", "precision", "recall", "density", "coverage")}


class Three(Features):
    """Three networks of four features."""

    @frozen
    class Config:
        pass

    dim = 4
    members = 3
    label = "three:v1"
    weights_hash = "ab"

    def forward(self, signals: Tensor) -> Tensor:
        raise NotImplementedError


class Official(Three):
    """Features that say that they are those of FID."""

    members = 1
    official = True


def table(n: int, columns: int = 12, *, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(n, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def measured(a: Tensor, b: Tensor, features: Features | None = None, **about: str) -> dict[str, Measurement]:
    return distances("own", features or Three(), a, b, about, reference_id="ref", bits=8)


def test_every_value_is_the_mean_over_networks_and_its_range_theirs() -> None:
    a, b = table(60), table(50, seed=1, shift=0.2)
    found = measured(a, b)
    assert set(found) == ALL
    pairs = [(a[:, i : i + 4], b[:, i : i + 4]) for i in (0, 4, 8)]
    nearby = [neighbours(*pair) for pair in pairs]
    expected = {
        "fd": [frechet_distance(*pair) for pair in pairs],
        "fd_infinity": [frechet_infinity(*pair) for pair in pairs],
        "kd": [kernel_distance(*pair) for pair in pairs],
    } | {name: [getattr(value, name) for value in nearby] for name in ("precision", "recall", "density", "coverage")}
    for name, values in expected.items():
        one = found[f"{name}/own"]
        assert one.value == pytest.approx(sum(values) / 3, rel=1e-12)
        assert one.range == (min(values), max(values))
        assert one.n == 50


def test_one_network_has_no_range_and_the_official_ones_metrics_are_fid_and_kid() -> None:
    found = measured(table(60, 4), table(60, 4, seed=1), Official())
    assert {one.range for one in found.values()} == {None}
    labels = [found[f"{name}/own"].key.metric for name in ("fd", "fd_infinity", "kd", "precision")]
    assert labels == ["FID", "FID-infinity", "KID", "precision[three:v1]"]
    labels = [one.key.metric for one in measured(table(60), table(60)).values()]
    assert labels[:3] == ["FD[three:v1]", "FD-infinity[three:v1]", "KD[three:v1]"]


def test_sets_too_small_for_a_metric_leave_it_out() -> None:
    names = {n: {name.partition("/")[0] for name in measured(table(n), table(60))} for n in (1, 4, 5, 19, 20)}
    assert names[1] == set()
    assert names[4] == {"kd"}
    assert names[5] == {"kd", "fd"}
    assert names[19] == {"kd", "fd", "precision", "recall", "density", "coverage"}
    assert names[20] == names[19] | {"fd_infinity"}


def test_distances_are_better_low_and_shares_high() -> None:
    same, far = measured(table(60), table(60, seed=1)), measured(table(60), table(60, seed=1, shift=1.5))
    for name in ALL:
        assert best([far[name], same[name]]) == 1


def test_keys_differ_between_metrics_and_by_how_samples_were_drawn() -> None:
    a, b = table(60), table(60, seed=1)
    cold, warm = measured(a, b, temperature="0.5"), measured(a, b, temperature="1.0")
    assert len({one.key for one in (*cold.values(), *warm.values())}) == 2 * len(ALL)
    for name in ALL:
        assert cold[name].key.differences(warm[name].key) == ["protocol sampler temperature: 0.5 against 1.0"]
        with pytest.raises(IncomparableError):
            best([cold[name], warm[name]])


def test_neighbours_are_looked_for_in_the_first_rows_only_and_the_key_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 30)
    a, b = table(60), table(50, seed=1)
    found = measured(a, b)
    assert found["coverage/own"].value == measured(a[:30], b[:30])["coverage/own"].value
    assert (found["coverage/own"].n, found["fd/own"].n) == (30, 50)
    assert dict(found["coverage/own"].key.protocol)["n reference"] == "30"


def test_tables_of_other_features_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"3 x 4 columns, got a table of shape \(60, 11\)"):
        measured(table(60, 11), table(60))


def test_the_interval_of_a_kernel_distance_holds_the_truth() -> None:
    """Of 100 shifted sets, at least 85 intervals hold the known distance in one dimension; too few rows have none.

    The estimate is skewed, so it is not 95. N(0, 1) against N(s, 1): 3 s^2 + 3 s^4 + (3 s + s^3)^2.
    """
    s = 0.8
    truth = 3 * s**2 + 3 * s**4 + (3 * s + s**3) ** 2
    held = 0
    for i in range(100):
        pair = (table(200, 1, seed=2 * i), table(200, 1, seed=2 * i + 1, shift=s))
        interval = kernel_interval(kernel_distance(*pair), [pair])
        assert interval is not None
        held += interval[0] < truth < interval[1]
    assert held >= 85
    assert interval[1] - interval[0] < 3 * truth
    assert kernel_interval(0.0, [(table(99), table(100))]) is None


def test_sets_that_are_too_small_are_told_of() -> None:
    """A Frechet distance that was left out is not simply missing: four signals have none in four dimensions, five have."""
    spaces: dict[str, Features] = {"three": Three(), "inception": Official()}
    notes = too_few(spaces, 4)
    assert [note.partition(": n/a: ")[0] for note in notes] == ["fd-three", "FID"]
    assert all("4 images are too few" in note and "evaluate.samples" in note for note in notes)
    assert too_few(spaces, 5) == []
