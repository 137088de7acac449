"""`--match params`: priors of one comparison get as many parameters as the first, counted on models that are really built."""

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve

from dvgen.assembly import resolved
from dvgen.code_model import assemble_code_model
from dvgen.compare.match import TOLERANCE, match_parameters, prior_parameters
from dvgen.discovery import discover
from dvgen.errors import ConfigError
from dvgen.experiment import Experiment, Training, experiment_from
from dvgen.interfaces.codes import Level
from dvgen.registry import Registry

PRIORS = ["gpt", "pixelsnail", "pixelcnn", "masked"]
ONE = (Level("codes", (8, 8), 512),)
TWO = (Level("top", (4, 4), 64), Level("bottom", (8, 8), 64))


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover(["toy_components"]).registry


def of(registry: Registry, *priors: Any, **table: Any) -> list[Experiment]:
    """Experiments that differ in their prior: a name, or tables."""
    chosen = [[{"use": prior}] if isinstance(prior, str) else prior for prior in priors]
    return [resolved(registry, experiment_from({"prior": prior} | table)) for prior in chosen]


def sizes(registry: Registry, experiments: Sequence[Experiment], levels: tuple[Level, ...], classes: int = 0) -> list[int]:
    """Parameters of real models, by their tensors."""
    models = [assemble_code_model(registry, one, levels, classes) for one in experiments]
    return [sum(weight.numel() for weight in model.parameters()) for model in models]


@pytest.mark.parametrize("first", PRIORS)
def test_priors_agree_within_five_percent_with_the_first(registry: Registry, first: str) -> None:
    """In a realistic case, whichever comes first; embeddings and output count. The first stays as it is."""
    experiments = of(registry, first, *(name for name in PRIORS if name != first))
    found = match_parameters(registry, experiments, lambda _: (ONE, 0))
    assert found[0] == experiments[0]
    assert [one.prior_label for one in found] == [one.prior_label for one in experiments]
    wanted, *others = sizes(registry, found, ONE)
    assert all(abs(count - wanted) <= 0.05 * wanted for count in others), (wanted, others)
    before = sizes(registry, experiments, ONE)
    assert any(abs(count - before[0]) > 0.05 * before[0] for count in before), "something must have been there to match"


@pytest.mark.parametrize("grid", [(4, 4), (64,)])
@pytest.mark.parametrize("num_codes", [8, 64, 1024])
def test_small_codes_can_be_matched_too(registry: Registry, grid: tuple[int, ...], num_codes: int) -> None:
    """Where hardly anything but the width counts, and its steps are coarse."""
    levels = (Level("codes", grid, num_codes),)
    for first in PRIORS:
        match_parameters(registry, of(registry, first, *PRIORS), lambda _: (levels, 0))


def test_what_is_not_width_stays_and_every_field_is_written_out(registry: Registry) -> None:
    """So that folders, which are named by the fields, tell matched priors from others."""
    experiments = of(registry, "pixelcnn", [{"use": "gpt", "layers": 3, "dropout": 0.2}])
    before, after = (
        experiments[1].prior[0].fields,
        match_parameters(registry, experiments, lambda _: (ONE, 0))[1].prior[0].fields,
    )
    assert {name for name in before if before[name] != after[name]} == {"dim"}
    assert after["dim"] % after["heads"] == 0


def test_no_other_width_comes_nearer(registry: Registry) -> None:
    """Against all widths of a transformer there are."""
    experiments = of(registry, "pixelsnail", "gpt")
    found = match_parameters(registry, experiments, lambda _: (ONE, 0))
    wanted, chosen = sizes(registry, found, ONE)
    every = [of(registry, [{"use": "gpt", "dim": dim}])[0] for dim in range(4, 400, 4)]
    assert abs(chosen - wanted) == min(abs(prior_parameters(registry, one, ONE, 0) - wanted) for one in every)


def test_the_priors_of_several_levels_count_together_and_share_a_factor(registry: Registry) -> None:
    levels = [{"use": "pixelsnail", "level": "top"}, {"use": "pixelcnn", "level": "bottom", "head_channels": 64}]
    experiments = of(registry, "gpt", levels)
    found = match_parameters(registry, experiments, lambda _: (TWO, 0))
    wanted, count = sizes(registry, found, TWO)
    assert abs(count - wanted) <= 0.05 * wanted
    (top, bottom), (top_before, bottom_before) = ([choice.fields for choice in one.prior] for one in (found[1], experiments[1]))
    factor = bottom["channels"] / bottom_before["channels"]
    assert factor != 1
    assert top["channels"] == pytest.approx(factor * top_before["channels"], abs=2)


def test_labels_count_where_priors_see_them(registry: Registry) -> None:
    """An embedding of a thousand classes is a large share of a small prior: without it, it would be matched wrongly."""
    plain, labelled = (of(registry, [{"use": "gpt", "dim": 32}], "pixelcnn", labels=labels) for labels in (False, True))
    found = [match_parameters(registry, chosen, lambda _: (ONE, 1000)) for chosen in (plain, labelled)]
    assert found[0][1].prior != found[1][1].prior
    wanted, count = sizes(registry, found[1], ONE, 1000)
    assert abs(count - wanted) <= 0.05 * wanted


def test_each_tokenizer_has_a_first_of_its_own(registry: Registry) -> None:
    """Groups are told apart by the tokenizer, and not by the budget of the prior."""
    small, large = (of(registry, "gpt", "pixelcnn", quantizer={"use": "ema", "num_codes": codes}) for codes in (64, 4096))
    longer = evolve(small[1], train=evolve(small[1].train, prior=Training(budget="codes:1e6")))

    def codes(experiment: Experiment) -> tuple[tuple[Level, ...], int]:
        return (Level("codes", (4, 4), int(experiment.quantizer[0].fields["num_codes"])),), 0  # type: ignore[call-overload]

    found = match_parameters(registry, [*small, *large, longer], codes)
    assert (found[0], found[2]) == (small[0], large[0])
    counts = [prior_parameters(registry, one, *codes(one)) for one in found]
    for one, other in ((1, 0), (3, 2), (4, 0)):
        assert abs(counts[one] / counts[other] - 1) <= TOLERANCE
    assert found[4].prior == found[1].prior


def test_priors_of_one_size_already_stay_as_they_are(registry: Registry) -> None:
    experiments = of(registry, "gpt", [{"use": "gpt", "dropout": 0.3}])
    assert match_parameters(registry, experiments, lambda _: (ONE, 0)) == experiments


def test_a_prior_without_widths_is_refused_with_its_count(registry: Registry) -> None:
    """A table of 64 x 512 logits, whatever the width."""
    with pytest.raises(ConfigError) as told:
        match_parameters(registry, of(registry, "gpt", "independent", "pixelcnn"), lambda _: (ONE, 0))
    (line,) = str(told.value).splitlines()
    wanted = sizes(registry, of(registry, "gpt"), ONE)[0]
    assert line.startswith(f"--match params: prior 'independent' cannot have the {wanted:,} parameters of 'gpt'")
    assert "it has 32,768 (-96%) at every width" in line
    assert "leave --match out" in line


def test_a_width_whose_steps_are_too_coarse_is_refused_with_the_closest(registry: Registry) -> None:
    """Sixteen heads, so dim is 16, 32, ...: from 48 to 64 it is more than a tenth of the parameters."""
    many = {"use": "gpt", "layers": 8, "heads": 16}
    wanted, nearest = of(registry, [{"use": "gpt", "layers": 8, "dim": 56}], [many | {"dim": 48}])
    with pytest.raises(ConfigError) as told:
        match_parameters(registry, [wanted, nearest, nearest], lambda _: (ONE, 0))
    (line,) = str(told.value).splitlines()
    above = of(registry, [many | {"dim": 64}])
    low, high = sizes(registry, [nearest, *above], ONE)
    assert f"within 5%: the closest are {low:,} (" in line
    assert f"and {high:,} (+" in line
