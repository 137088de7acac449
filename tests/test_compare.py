"""A comparison: complete, each part of it done once, the same when it was interrupted, and fair."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_runs import settings, watched

from dvgen.cli import main
from dvgen.cli.options import experiment_table, finished_experiment, put
from dvgen.compare import Comparison, compare_all, open_all
from dvgen.compare.grid import expand
from dvgen.compare.merging import merge
from dvgen.compare.verdicts import Contestant, fidelity, verdicts
from dvgen.errors import ConfigError, Stopped
from dvgen.evaluation.measurement import Key, Measurement
from dvgen.evaluation.statistics import share_interval
from dvgen.experiment import Experiment, experiment_from
from dvgen.registry import Registry

PRIORS = "gpt,independent"
LADDER = ["uniform", "unigram", "position unigram", "left", "left+up", "four neighbours", "lzma"]
NO_OPTIONS = dict.fromkeys(
    (
        "recipe",
        "config",
        "data",
        "encoder",
        "quantizer",
        "decoder",
        "loss",
        "discriminator",
        "prior",
        "seed",
        "labels",
        "tokenizer_budget",
        "budget",
        "precision",
    )
)


def dvgen_compare(folder: Path, *arguments: str, priors: str = PRIORS) -> int:
    """The exit code of a tiny comparison in `folder`."""
    with pytest.raises(SystemExit) as ended:
        main(["-p", "toy_components", "compare", "--prior", priors, "--out", str(folder), *settings(), *arguments])
    return int(ended.value.code or 0)


def results_of(folder: Path) -> Any:
    """What was measured, without what differs between two runs of the same: times of day, seconds, places."""
    document = json.loads((folder / "results.json").read_text())

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            gone = ("created", "train_seconds", "samples_per_second", "folder", "environment", "seconds", "command")
            return {key: strip(item) for key, item in value.items() if key not in gone}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(document)


def modified(folder: Path) -> dict[str, int]:
    """When every checkpoint, code table and assessment was written."""
    kept = ("checkpoints", "codes", "assessment")
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if set(kept) & set(p.parts)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of two priors; not to be changed."""
    folder = tmp_path_factory.mktemp("compare") / "finished"
    assert dvgen_compare(folder) == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def measurements(document: Any) -> list[tuple[str, Any]]:
    """Every measurement of a results document."""
    found = []
    for group in document["groups"]:
        for holder in (group["tokenizer"], *group["rows"], *group["baselines"], *group["references"]):
            found += list(holder["measurements"].items())
    return found


def test_results_are_complete(finished: Path) -> None:
    document = json.loads((finished / "results.json").read_text())
    assert document["schema"] == 2
    assert document["repeats"] == 1
    assert {"dvgen", "torch", "numpy"} <= set(document["environment"]["versions"])
    (group,) = document["groups"]
    assert [row["prior"] for row in group["rows"]] == ["gpt", "independent"]
    assert [row["name"] for row in group["baselines"]] == LADDER
    assert {"psnr", "usage/codes", "perplexity/codes"} <= set(group["tokenizer"]["measurements"])
    for row in group["rows"]:
        assert {"nll", "bits_code", "bits_image", "excess"} <= set(row["measurements"])
        assert row["steps"] == 3
        assert row["train_seconds"] > 0
        assert (finished / row["repeats"][0]["folder"]).is_dir()
        assert experiment_from(row["experiment"])
    for row in group["references"]:  # what a share of samples is to be compared with
        assert {"duplicates", "memorised/rand"} <= set(row["measurements"]) or row["name"] == "real against real"
    (verdict,) = group["verdicts"]
    assert verdict["pair"] == ["gpt", "independent"]
    assert verdict["unit"] == "nats/code"
    assert group["tokenizer"]["images"] == {"train": 40, "validation": 4, "test": 4}
    for name, found in measurements(document):
        assert set(found) - {"range"} == {"value", "interval", "n", "key"}, name
        assert np.isfinite(found["value"])
        assert found["n"] >= 1
        assert found["key"]["metric"]
        assert found["key"]["protocol"], name
        if found["interval"] is not None:
            assert found["interval"][0] <= found["value"] <= found["interval"][1]


def test_the_numbers_agree_with_each_other(finished: Path) -> None:
    (group,) = json.loads((finished / "results.json").read_text())["groups"]
    for row in [*group["rows"], *group["baselines"]]:
        found = {name: measured["value"] for name, measured in row["measurements"].items()}
        assert found["bits_code"] == pytest.approx(found["nll"] / np.log(2))
        assert found["bits_image"] == pytest.approx(found["bits_code"] * group["tokenizer"]["codes_per_image"])
        if "excess" in found:
            assert found["excess"] >= 0
    first, second = (row["measurements"]["nll"]["value"] for row in group["rows"])
    assert group["verdicts"][0]["difference"] == pytest.approx(first - second)
    assert (finished / "run.json").is_file()
    assert json.loads((finished / "run.json").read_text())["status"] == "finished"
    assert len(list(finished.glob("rows/*/samples/samples.png"))) == 2
    assert len(list(finished.glob("tokenizers/*/samples/reconstructions.png"))) == 1


def test_a_tokenizer_is_trained_once_for_all_its_priors(finished: Path) -> None:
    assert len(list((finished / "tokenizers").iterdir())) == 1
    assert len(list((finished / "rows").iterdir())) == 2


def test_the_same_command_again_does_nothing_new(copied: Path) -> None:
    before, known = modified(copied), results_of(copied)
    assert dvgen_compare(copied) == 0
    assert modified(copied) == before
    assert results_of(copied) == known


def test_another_prior_is_added_to_what_is_there(copied: Path) -> None:
    before = modified(copied)
    assert dvgen_compare(copied, priors="independent") == 0
    after = modified(copied)
    assert {name: after[name] for name in before} == before


@pytest.mark.filterwarnings("default:assessed again")
@pytest.mark.parametrize("damage", ["truncated", "removed", "another protocol"])
def test_a_damaged_assessment_is_made_again(copied: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    known = results_of(copied)
    place = next(copied.glob("rows/gpt*/assessment"))
    if damage == "truncated":
        nats = place / "per_image.npz"
        nats.write_bytes(nats.read_bytes()[:-1])
    elif damage == "removed":
        (place / "results.json").unlink()
    else:
        manifest = place / "MANIFEST.json"
        manifest.write_text(manifest.read_text().replace("samples", "tampered"))
    before = modified(copied)
    assert dvgen_compare(copied) == 0
    assert "warning: assessed again: " in capsys.readouterr().err
    assert results_of(copied) == known
    changed = {name for name, when in modified(copied).items() if before.get(name) != when}
    assert changed
    assert all(name.startswith(str(place.relative_to(copied))) for name in changed)


def experiments(registry: Registry, priors: list[str]) -> list[Experiment]:
    table = experiment_table(
        registry, NO_OPTIONS | {"tokenizer_budget": "steps:3", "budget": "steps:3", "precision": "32-true"}
    )
    sets = tuple(settings()[1:36:2])
    return expand(table, {"prior": priors}, put, lambda made: finished_experiment(registry, made, sets))


def compare_in(folder: Path, stop_after: int = -1) -> tuple[dict[str, Any], int]:
    """The results of a comparison, and how often training began; with a stop at the first step of a run."""
    opened, watch = watched()
    chosen = experiments(opened.registry, ["gpt", "pixelsnail"])
    rows = []

    def say(text: str) -> None:
        rows.append(text)

    def act() -> None:
        if len([event for event in watch.seen if event[0] == "started"]) > stop_after >= 0:
            opened.stop.asked = True

    watch.at, watch.act = 1, act
    made = compare_all(opened, Comparison(chosen, 1, folder), open_all(opened, chosen), say)
    return made, len([event for event in watch.seen if event[0] == "started"])


def test_an_interrupted_comparison_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    _, began = compare_in(tmp_path / "whole")
    assert began == 3
    for stop in (0, 1, 2):  # in the tokenizer, in the first row, in the second
        folder = tmp_path / f"stopped{stop}"
        with pytest.raises(Stopped):
            compare_in(folder, stop)
        assert not (folder / "results.json").exists()
        compare_in(folder)
        assert results_of(folder) == results_of(tmp_path / "whole")


def test_repeats_have_their_own_weights_and_intervals_over_them(tmp_path: Path) -> None:
    folder = tmp_path / "seeds"
    assert dvgen_compare(folder, "--seeds", "2", priors=["independent", "independent"][0]) == 0
    document = json.loads((folder / "results.json").read_text())
    (row,) = document["groups"][0]["rows"]
    assert len(list((folder / "tokenizers").iterdir())) == 1
    first, second = (repeat["measurements"]["nll"]["value"] for repeat in row["repeats"])
    assert first != second
    merged = row["measurements"]["nll"]
    assert merged["value"] == pytest.approx((first + second) / 2)
    assert merged["interval"][0] < min(first, second)
    assert merged["interval"][1] > max(first, second)
    assert merged["n"] == 4
    bits = row["measurements"]["bits_code"]
    assert np.array(bits["interval"]) == pytest.approx(np.array(merged["interval"]) / np.log(2))


def test_a_prior_that_is_better_than_can_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dvgen_compare(tmp_path / "run", priors="cheating") == 4
    assert "Traceback" not in (errors := capsys.readouterr().err)
    assert "a prior" in errors
    assert not (tmp_path / "run" / "results.json").exists()


def put_flat(table: dict[str, Any], box: str, text: str) -> None:
    table[box] = text


def note(table: dict[str, Any]) -> Any:
    return (table["a"], table["b"], table["kept"])


def test_a_grid_is_the_product_in_the_order_given() -> None:
    found: Any = expand({"kept": [1]}, {"a": ["y", "x"], "b": ["2", "1"]}, put_flat, note)
    assert found == [("y", "2", [1]), ("y", "1", [1]), ("x", "2", [1]), ("x", "1", [1])]


def test_a_value_listed_twice_is_refused_and_faults_are_reported_together() -> None:
    with pytest.raises(ConfigError, match="--a: 'x' is listed twice"):
        expand({}, {"a": ["x", "y", "x"]}, put_flat, note)

    def refuse(table: dict[str, Any]) -> Any:
        raise ConfigError(f"no {table['a']}\nalways")

    with pytest.raises(ConfigError) as told:
        expand({}, {"a": ["x", "y"]}, put_flat, refuse)
    assert str(told.value).splitlines() == ["no x (with --a x)", "always", "no y (with --a y)"]


def test_the_base_of_a_grid_is_not_changed() -> None:
    base = {"kept": {"deep": 1}}
    before = copy.deepcopy(base)
    expand(base, {"a": ["x"], "b": ["1"]}, lambda table, box, text: table["kept"].update({box: text}), lambda table: table)  # type: ignore[arg-type, return-value]
    assert base == before


def contestant(
    name: str, *repeats: list[float], protocol: str = "same", budget: str = "steps:1", unranked: str = ""
) -> Contestant:
    """A row with nats/code of a few images, a list a repeat."""
    found = [
        {"nll": Measurement(float(np.mean(nats)), None, len(nats), Key("nll", "nats/code", {"codes": protocol}))}
        for nats in repeats
    ]
    return Contestant(name, budget, found[0], [np.array(nats) for nats in repeats], found, unranked)


def judged(one: Contestant, other: Contestant) -> dict[str, Any]:
    (verdict,) = verdicts([one, other])
    return verdict


def test_equal_rows_tie_and_a_clear_difference_does_not() -> None:
    left = contestant("left", [1.0, 2.0, 1.5])
    assert judged(left, contestant("right", [1.0, 2.0, 1.5]))["verdict"] == "tie"
    assert judged(left, contestant("right", [2.0, 1.0, 1.5]))["verdict"] == "tie"
    clear = judged(left, contestant("right", [1.1, 2.125, 1.6]))
    assert clear["verdict"] == "left is better"
    assert clear["difference"] == pytest.approx(-(0.1 + 0.125 + 0.1) / 3)
    assert clear["better_on_image"] == 1.0
    assert judged(contestant("left", [1.1, 2.125, 1.6]), contestant("right", [1.0, 2.0, 1.5]))["verdict"] == "right is better"
    assert judged(contestant("left", [1.0]), contestant("right", [1.25]))["verdict"] == "tie"  # one image proves nothing


def test_repeats_judge_by_seeds_and_images() -> None:
    right = contestant("right", [1.5, 2.475, 2.0], [1.5, 2.5, 2.025])
    assert judged(contestant("left", [1.0, 2.0, 1.5], [1.025, 2.0, 1.5]), right)["verdict"] == "left is better"
    assert judged(contestant("left", [1.0, 2.0, 1.5], [2.25, 3.25, 2.75]), right)["verdict"] == "tie"


def test_the_pairs_of_a_table_are_judged_together() -> None:
    """What would be a verdict alone is none among others that say nothing (Holm)."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=200)
    gap = rng.normal(size=200)
    gap += 2.4 * gap.std(ddof=1) / 200**0.5 - gap.mean()  # t = 2.4: p = 0.017
    one, other = contestant("a", list(noise)), contestant("b", list(noise + gap))
    alone = judged(one, other)
    others = [contestant(name, list(rng.normal(size=200))) for name in "cdef"]
    together = next(v for v in verdicts([one, other, *others]) if v["pair"] == ["a", "b"])
    assert together["p"] == alone["p"] == alone["p_holm"] < 0.05
    assert together["p_holm"] > 0.05
    assert (alone["verdict"], together["verdict"]) == ("a is better", "tie")


def test_rows_of_two_budgets_are_not_paired() -> None:
    assert verdicts([contestant("a", [1.0, 2.0]), contestant("b", [1.0, 2.0], budget="seconds:9")]) == []


def test_a_row_that_is_not_verified_is_not_ranked() -> None:
    verdict = judged(contestant("a", [1.0, 2.0, 3.0]), contestant("b", [9.0, 9.1, 9.2], unranked="not verified: check 6"))
    assert verdict["p_holm"] is None
    assert verdict["difference"] == pytest.approx(-7.1)
    assert verdict["verdict"] == "not ranked: b is not verified: check 6"


def test_measurements_of_different_protocols_are_never_ranked() -> None:
    verdict = judged(contestant("left", [1.0, 2.0]), contestant("right", [1.0, 2.0], protocol="another"))
    assert (verdict["difference"], verdict["interval"]) == (None, None)
    assert "measured differently" in verdict["verdict"]


def closest(**spaces: list[list[float]]) -> dict[str, Any]:
    """The verdict on distances: for each space, a list of repeats for each of the priors a, b, ..."""
    rows = []
    for i, name in enumerate("abc"[: len(next(iter(spaces.values())))]):
        keys = {space: Key(f"FD[{space}]", "", {}) for space in spaces}
        each = [
            {f"fd/{space}": Measurement(values[i][r], None, 9, keys[space]) for space, values in spaces.items()}
            for r in range(len(next(iter(spaces.values()))[i]))
        ]
        means = {
            name: Measurement(float(np.mean([one[name].value for one in each])), None, 9, each[0][name].key) for name in each[0]
        }
        rows.append(Contestant(name, "steps:1", means, [], each, ""))
    return fidelity(rows)


def test_a_winner_of_the_distances_wins_in_every_space_beyond_the_repeats() -> None:
    assert closest(rand=[[1.0, 1.1, 1.05], [2.0, 2.2, 2.1]], clf=[[5.0, 5.1, 5.2], [9.0, 9.1, 9.2]])["winner"] == "a"
    other = closest(rand=[[1.0, 1.1, 1.05], [2.0, 2.2, 2.1]], clf=[[9.0, 9.1, 9.2], [5.0, 5.1, 5.2]])
    assert other == {"winner": None, "text": "no winner: FD[rand] prefers a, FD[clf] prefers b"}
    tied = closest(rand=[[1.0, 2.0, 3.0], [1.1, 2.2, 2.9]], clf=[[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]])
    assert tied["winner"] is None
    assert tied["text"].startswith("tie: a is lowest, but not beyond the spread of repeats in FD[rand]")
    third = closest(rand=[[1.0, 1.1, 1.05], [2.0, 2.2, 2.1], [9.0, 0.5, 9.0]])
    assert third == {"winner": None, "text": "tie: a is lowest, but not beyond the spread of repeats in FD[rand]"}
    once = closest(rand=[[1.0], [2.0]])
    assert once["winner"] is None
    assert "no interval" in once["text"]


def test_distances_that_were_measured_differently_have_no_winner() -> None:
    """Such as those of a prior with labels and of one without, in one table."""

    def row(name: str, conditioning: str, values: list[float]) -> Contestant:
        key = Key("FD[rand]", "", {"sampler conditioning": conditioning})
        repeats = [{"fd/rand": Measurement(value, None, 9, key)} for value in values]
        return Contestant(name, "steps:1", repeats[0], [], repeats, "")

    found = fidelity([row("a", "none", [1.0, 1.1]), row("b", "labels", [5.0, 5.1])])
    assert found["winner"] is None
    assert "measured differently" in found["text"]


def test_repeats_are_merged_with_the_range_of_networks_and_single_images() -> None:
    """The range over networks is not lost; the values of one test image have an interval over repeats alone."""
    key = Key("FD[rand]", "", {})
    each = [
        {"fd/rand": Measurement(v, None, 9, key, (v - w, v + w)), "nll": Measurement(v, None, 1, key)}
        for v, w in ((1.0, 0.5), (2.0, 1.0), (3.0, 1.5))
    ]
    found = merge(each, [{"nll": np.array([one["nll"].value])} for one in each])
    assert (found["fd/rand"].value, found["fd/rand"].range) == (2.0, (1.0, 3.0))
    assert found["nll"].value == 2.0
    assert found["nll"].interval == found["fd/rand"].interval
    assert found["nll"].range is None
    assert merge(each[:1], [{}]) == each[0]


def test_repeats_that_agree_exactly_are_not_certain() -> None:
    """No duplicate in 10 samples of each of three repeats: there may be some in others, as one repeat by itself says."""
    none = {"duplicates": Measurement(0.0, share_interval(0, 10), 10, Key("duplicates", "", {}))}
    assert merge([none] * 3, [{}] * 3)["duplicates"].interval == share_interval(0, 10)


def test_a_decoder_of_another_size_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert dvgen_compare(folder, "--set", "encoder.downsample=4") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dvgen: decoder: makes signals of shape (3, 64, 64) of these codes, but the data have (3, 32, 32)")
    assert not folder.exists()


def test_parts_that_do_not_fit_are_told_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert dvgen_compare(folder, "--set", "train.prior.micro_batches=3", "--set", "encoder.downsample=64") == 2
    lines = capsys.readouterr().err.splitlines()
    assert any("encoder.downsample" in line for line in lines)
    assert not folder.exists()
