"""Comparing on codes of known probability: no tokenizer, the excess over the truth, and what cannot be is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from toy_runs import dvgen

from dvgen.cli.compare import compare as compare_command
from dvgen.cli.compare import grid
from dvgen.discovery import discover

TINY = (
    "data.rows=3", "data.columns=3", "data.train=64", "data.validation=24", "data.test=200",
    "prior.dim=8", "prior.layers=1", "prior.heads=2",
    "train.prior.batch=8", "evaluate.samples=24", "evaluate.maps=0",
)  # fmt: skip
ORACLE = ("prior.source.use=potts-8x8", "prior.source.rows=3", "prior.source.columns=3")


def compare(folder: Path, *arguments: str, sets: tuple[str, ...] = TINY, data: str = "truth:potts-8x8") -> int:
    """The exit code of a tiny comparison on a Potts field."""
    options = [part for text in sets for part in ("--set", text)]
    hardware = ("--accelerator", "cpu", "--budget", "steps:3", "--out", str(folder))
    return dvgen("-p", "toy_components", "compare", "--data", data, *hardware, *options, *arguments)


def only_group(folder: Path) -> Any:
    """The one table of a comparison."""
    (group,) = json.loads((folder / "results.json").read_text())["groups"]
    return group


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison on a Potts field; not to be changed."""
    folder = tmp_path_factory.mktemp("truth") / "compared"
    assert compare(folder, "--prior", "gpt", "--seeds", "2") == 0
    return folder


def test_an_untrained_prior_is_above_the_truth_by_an_interval(finished: Path) -> None:
    group = only_group(finished)
    (row,) = group["rows"]
    excess = row["measurements"]["excess"]
    assert 0 < excess["interval"][0] < excess["value"] < excess["interval"][1]
    assert group["tokenizer"]["kind"] == "truth"
    entropy = group["tokenizer"]["entropy_nats_per_image"] / 9
    # the same images, so what they differ from their expectation cancels but for the truth's own spread
    assert row["measurements"]["nll"]["value"] - excess["value"] == pytest.approx(entropy, abs=0.05)
    assert {"duplicates", "js_1x1/codes", "two_sample/codes", "self_nll_gap"} <= set(row["measurements"])
    assert not any(name.startswith("fd") for name in row["measurements"])
    assert [one["name"] for one in group["references"]] == ["oracle codes", "unigram samples"]


def test_no_tokenizer_is_trained(finished: Path) -> None:
    (place,) = (finished / "tokenizers").iterdir()
    assert place.name.startswith("potts-8x8-")
    assert (place / "codes").is_dir()
    assert not (place / "checkpoints").exists()


def test_the_source_itself_is_at_the_truth(tmp_path: Path) -> None:
    sets = (*(text for text in TINY if not text.startswith("prior.")), *ORACLE)
    assert compare(tmp_path / "c", "--prior", "oracle", sets=sets) == 0
    excess = only_group(tmp_path / "c")["rows"][0]["measurements"]["excess"]
    assert excess["value"] == pytest.approx(0, abs=1e-6)
    assert excess["interval"][0] <= 1e-6


def test_a_prior_below_the_truth_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = tuple(text for text in TINY if not text.startswith("prior."))
    assert compare(tmp_path / "c", "--prior", "cheating", sets=sets) == 4
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "a prior" in said
    assert not (tmp_path / "c" / "results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--data", "truth:pots-8x8"), "did you mean 'potts-8x8'?"),
        (("--data", "truth:potts-8x8", "--labels"), "a source of codes has no labels"),
        (("--data", "truth:potts-8x8", "--set", "data.columns=20"), "num_codes^columns must be at most 1024"),
        (("--data", "truth:"), "expected NAME, NAME:LOCATION or truth:SOURCE"),
        (("--data", "truth:potts-8x8", "--quantizer", "ema,gumbel"), "--quantizer with --data truth:potts-8x8"),
        (("--data", "truth:potts-8x8,truth:markov", "--tokenizer-budget", "steps:3"), "has no tokenizer and no signals"),
        (("--data", "truth:potts-8x8", "--metric", "fid"), "--metric with --data truth:potts-8x8"),
        (("--data", "truth:potts-8x8", "--set", "encoder.channels=8"), "--set 'encoder.channels=8' with --data"),
    ],
)
def test_faults_are_one_line(tmp_path: Path, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dvgen("compare", "--out", str(tmp_path / "c"), *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "c").exists()


def test_in_a_mixed_grid_a_source_is_one_table_however_many_tokenizers_there_are() -> None:
    """Rows of one name, trained on one codes, would stand against each other as if they were two."""
    options = compare_command.make_context("compare", ["--data", "shapes,truth:potts-8x8", "--quantizer", "ema,gumbel"]).params
    found = grid(discover().registry, options)
    assert [(one.data.use, one.quantizer_label) for one in found if not one.data.truth] == [
        ("shapes", "ema"),
        ("shapes", "gumbel"),
    ]
    (source,) = (one for one in found if one.data.truth)
    assert source.data.use == "potts-8x8"


def test_there_is_nothing_to_train_or_sample_as_one_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dvgen("train", "--data", "truth:markov", "--out", str(tmp_path / "r")) == 2
    assert "use `dvgen compare --data truth:markov`" in capsys.readouterr().err
    assert dvgen("train", "--set", "data.use=markov", "--set", "data.truth=true", "--out", str(tmp_path / "r")) == 2
    assert "use `dvgen compare --data truth:markov`" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
    row = next((finished / "rows").iterdir())
    assert dvgen("sample", str(row)) == 3
    assert "it has no images" in capsys.readouterr().err
