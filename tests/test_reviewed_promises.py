"""Promises that a reviewer once found broken: precision in the hash, locks, interruption, provenance, nobody's files lost."""

import json
import shutil
from pathlib import Path

import pytest
from toy_runs import TINY_GPT, dvgen, settings

from dvgen.data.loading import open_dataset
from dvgen.errors import ConfigError, DataError, IntegrityError, Stopped
from dvgen.evaluation.assessment import _sampler
from dvgen.experiment import Experiment, parse_data, read_experiment
from dvgen.training.folder import TRAINING_LOCK, check_out, locked
from dvgen.training.pipeline import read_run, tokenizer_folder
from dvgen.training.prior import prior_config
from dvgen.training.tokenizer import tokenizer_config

INTEGRITY = 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reviewed") / "run"
    assert dvgen("train", "--out", str(folder), *settings(*TINY_GPT)) == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_precision_decides_a_tokenizer_and_a_prior() -> None:
    full, half = Experiment(), read_experiment(None, ["train.precision=bf16-mixed"])
    assert tokenizer_config(full) != tokenizer_config(half)
    assert prior_config(full, "tokens") != prior_config(half, "tokens")


def test_a_prior_under_an_edited_config_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    config["train"]["prior"]["lr"] = 9.5
    (copied / "config.json").write_text(json.dumps(config))
    for command in (["sample"], ["evaluate"], ["train", "--resume"]):
        assert dvgen(*command, str(copied)) == INTEGRITY


def test_a_stage_that_is_being_trained_is_left_alone(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (copied, copied / "tokenizer"):
        with locked(place, name=TRAINING_LOCK):
            assert dvgen("train", "--resume", str(copied)) == INTEGRITY
        assert "in use by process" in capsys.readouterr().err


def test_a_run_keeps_the_provenance_it_began_with(copied: Path) -> None:
    before = (copied / "manifest.json").read_bytes()
    assert dvgen("train", "--resume", str(copied)) == 0
    assert (copied / "manifest.json").read_bytes() == before


def test_an_assessment_stops_on_request_before_anything_is_drawn(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dvgen.training.interrupt.StopRequest.check", _stop)
    for command in ("evaluate", "sample"):
        assert dvgen(command, str(finished)) == 75
        assert "stopped on request" in capsys.readouterr().err


def _stop(self: object, where: str) -> None:
    raise Stopped(f"stopped on request: {where}")


@pytest.mark.parametrize("damage", ["{}", '{"tokenizer": 5}', '{"tokenizer": "../../x"}', "[]", "{"])
def test_a_manifest_that_does_not_say_where_the_tokenizer_lies_is_refused(copied: Path, damage: str) -> None:
    (copied / "manifest.json").write_text(damage)
    with pytest.raises(IntegrityError, match="damaged"):
        tokenizer_folder(copied)
    assert dvgen("train", "--resume", str(copied)) == INTEGRITY


def test_a_tokenizer_is_not_taken_for_a_run(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps(manifest | {"tokenizer": "."}))
    with pytest.raises(DataError, match="a tokenizer, not a run"):
        read_run(copied)


def test_nobodys_files_are_mixed_with_a_run(copied: Path, tmp_path: Path) -> None:
    check_out(tmp_path / "new", [])
    (tmp_path / "used").mkdir()
    check_out(tmp_path / "used", [])
    (tmp_path / "used" / "thesis.tex").touch()
    for folder, reason in ((tmp_path / "used", "thesis.tex"), (copied, "a run is already there")):
        with pytest.raises(ConfigError, match=reason):
            check_out(folder, ["rows"])
        assert dvgen("compare", "--out", str(folder)) == 2
    with pytest.raises(ConfigError, match="a file"):
        check_out(tmp_path / "used" / "thesis.tex", [])


def test_the_distance_of_conditional_samples_has_another_protocol() -> None:
    assert _sampler(labelled=True) != _sampler(labelled=False)


def test_a_run_can_be_gone_back_to_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: object
) -> None:
    from dvgen.cli.options import put
    from dvgen.experiment import table_of

    monkeypatch.chdir(tmp_path)
    table = table_of(Experiment())
    put(table, "data", "folder:images")
    assert table["data"]["location"] == str(tmp_path / "images")
    with pytest.raises(DataError, match="images"):
        open_dataset(registry, parse_data(f"folder:{table['data']['location']}"))  # type: ignore[arg-type]
