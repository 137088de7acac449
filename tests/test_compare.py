"""A comparison: complete, each part of it done once, the same when it was interrupted, and fair."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from toy_runs import settings, watched

from dvgen.cli import main
from dvgen.cli.options import experiment_table, finished_experiment, put
from dvgen.compare.grid import expand
from dvgen.compare.results import Repeat, merge, row_labels, verdicts
from dvgen.compare.rows import Comparison, compare_all, open_all
from dvgen.errors import ConfigError, IncomparableError, Stopped
from dvgen.evaluation.measurement import Key, Measurement
from dvgen.experiment import Experiment, experiment_from
from dvgen.registry import Registry

PRIORS = "gpt,independent"
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
            gone = ("created", "train_seconds", "samples_per_second", "folder", "environment")
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
        for holder in (group["tokenizer"], *group["rows"], *group["baselines"]):
            found += list(holder["measurements"].items())
    return found


def test_results_are_complete(finished: Path) -> None:
    document = json.loads((finished / "results.json").read_text())
    assert document["schema"] == 1
    assert document["repeats"] == 1
    assert {"dvgen", "torch", "numpy"} <= set(document["environment"]["versions"])
    (group,) = document["groups"]
    assert [row["prior"] for row in group["rows"]] == ["gpt", "independent"]
    assert [row["name"] for row in group["baselines"]] == ["unigram", "left+up"]
    assert {"psnr", "usage/codes", "perplexity/codes"} <= set(group["tokenizer"]["measurements"])
    for row in group["rows"]:
        assert {"nll", "bits_code", "bits_image", "excess"} <= set(row["measurements"])
        assert row["steps"] == 3
        assert row["train_seconds"] > 0
        assert (finished / "rows" / row["repeats"][0]["folder"]).is_dir()
        assert experiment_from(row["experiment"])
    (verdict,) = group["verdicts"]
    assert verdict["pair"] == ["gpt", "independent"]
    assert verdict["unit"] == "nats/code"
    assert group["tokenizer"]["images"] == {"train": 40, "validation": 4, "test": 4}
    for name, found in measurements(document):
        assert set(found) == {"value", "interval", "n", "key"}, name
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
    table = experiment_table(registry, NO_OPTIONS | {"tokenizer_budget": "steps:3", "budget": "steps:3"})
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


def repeat(nats: list[float], protocol: str = "same") -> Repeat:
    """A row measured on images of four codes."""
    array = np.array([nats])
    keys = {name: Key(name, "nats/code", {"codes": protocol}) for name in ("nll", "bits_code", "bits_image")}
    values = {"nll": array.mean() / 4, "bits_code": array.mean() / 4 / np.log(2), "bits_image": array.mean() / np.log(2)}
    found = {name: Measurement(float(values[name]), None, len(nats), key) for name, key in keys.items()}
    return Repeat(Path("x"), 1, found, array, 1.0, 1, 1.0)


def judged(one: list[Repeat], other: list[Repeat]) -> dict[str, Any]:
    (verdict,) = verdicts([("left", merge(one), one), ("right", merge(other), other)])
    return verdict


def test_equal_rows_tie_and_a_clear_difference_does_not() -> None:
    assert judged([repeat([4.0, 8.0, 6.0])], [repeat([4.0, 8.0, 6.0])])["verdict"] == "tie"
    assert judged([repeat([4.0, 8.0, 6.0])], [repeat([8.0, 4.0, 6.0])])["verdict"] == "tie"
    clear = judged([repeat([4.0, 8.0, 6.0])], [repeat([4.4, 8.5, 6.4])])
    assert clear["verdict"] == "left is better"
    assert clear["difference"] == pytest.approx(-(0.4 + 0.5 + 0.4) / 3 / 4)
    assert judged([repeat([4.4, 8.5, 6.4])], [repeat([4.0, 8.0, 6.0])])["verdict"] == "right is better"
    assert judged([repeat([4.0])], [repeat([5.0])])["verdict"] == "tie"  # one image proves nothing


def test_repeats_judge_by_seeds_and_images() -> None:
    one, other = [repeat([4.0, 8.0, 6.0]), repeat([4.1, 8.0, 6.0])], [repeat([6.0, 9.9, 8.0]), repeat([6.0, 10.0, 8.1])]
    assert judged(one, other)["verdict"] == "left is better"
    noisy = [repeat([4.0, 8.0, 6.0]), repeat([9.0, 13.0, 11.0])]
    assert judged(noisy, other)["verdict"] == "tie"


def test_measurements_of_different_protocols_are_never_merged_or_ranked() -> None:
    with pytest.raises(IncomparableError):
        merge([repeat([4.0, 8.0]), repeat([4.0, 8.0], "another")])
    verdict = judged([repeat([4.0, 8.0])], [repeat([4.0, 8.0], "another")])
    assert (verdict["difference"], verdict["interval"]) == (None, None)
    assert "measured differently" in verdict["verdict"]


def test_rows_that_differ_in_budget_say_so(registry: Registry) -> None:
    axes = {"prior": ["gpt", "pixelsnail"], "budget": ["steps:1", "steps:2"]}
    grid = expand(experiment_table(registry, NO_OPTIONS), axes, put, lambda made: finished_experiment(registry, made, ()))
    assert row_labels(grid) == ["gpt steps:1", "gpt steps:2", "pixelsnail steps:1", "pixelsnail steps:2"]
    assert row_labels(grid[::2]) == ["gpt", "pixelsnail"]


def test_one_repeat_keeps_its_measurements() -> None:
    only = repeat([4.0, 8.0])
    assert merge([only]) == only.measurements
    assert merge([only, evolve(only, steps=2)])["nll"].value == pytest.approx(1.5)


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
