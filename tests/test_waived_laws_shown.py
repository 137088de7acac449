"""Rule: laws that a component waives are told with their reasons to whoever asks for it, and wherever it is compared."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from toy_pages import Page
from toy_runs import settings

from dvgen.cli import group as dvgen
from dvgen.compare.waivers import waiver_notes
from dvgen.errors import PluginError
from dvgen.experiment import experiment_from
from dvgen.explaining.topics import explained
from dvgen.registry import Registry
from dvgen_ema.quantizer import EMAQuantizer

REASON = "there is a reason for it"
WAIVED = {"P22 unused_stays": "codes wander on purpose", "P23 revival": "they never rest"}


def test_explain_lists_waived_laws_with_their_reasons(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = explained(registry, "quantizer", "ema", 100)
    assert plain.document["waived_laws"] == {}
    assert "LAWS THAT DO NOT APPLY TO IT" not in "\n".join(plain.lines)
    monkeypatch.setattr(EMAQuantizer, "waived_laws", WAIVED)
    told = explained(registry, "quantizer", "ema", 100)
    assert told.document["waived_laws"] == WAIVED
    assert json.loads(json.dumps(told.document))
    text = "\n".join(told.lines)
    assert "LAWS THAT DO NOT APPLY TO IT" in text
    assert "P23 revival" in text
    assert "they never rest" in text
    monkeypatch.setattr(EMAQuantizer, "waived_laws", {"P99 nothing": REASON})
    with pytest.raises(PluginError, match=r"dvgen_ema\..* has no law 'P99 nothing'"):
        explained(registry, "quantizer", "ema", 100)


NOTE = "quantizer ema waives P22: codes wander on purpose; P23: they never rest"


def test_a_comparison_has_one_note_for_each_component_used_parts_too(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EMAQuantizer, "waived_laws", WAIVED)
    tables: list[dict[str, Any]] = [
        {"quantizer": {"use": "projected", "inner": {"use": "residual", "inner": {"use": "ema"}}}},
        {"quantizer": {"use": "ema"}},
    ]
    experiments = [experiment_from(table) for table in tables]
    assert waiver_notes(registry, experiments[:1]) == waiver_notes(registry, experiments) == (NOTE,)
    assert waiver_notes(registry, [experiment_from({"quantizer": {"use": "fsq"}})]) == ()
    assert waiver_notes(registry, [experiment_from({"data": {"use": "markov", "truth": True}, **tables[1]})]) == ()
    monkeypatch.setattr(EMAQuantizer, "waived_laws", ["P22 unused_stays"])
    assert waiver_notes(registry, experiments[1:]) == (
        "quantizer ema waives laws, and does not say which: its waived_laws are no mapping",
    )


def test_notes_of_priors_and_features_name_their_kind(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, name, law in (
        ("prior", "gpt", "R2 masked"),
        ("features", "rand", "F4 neighbours"),
        ("dataset", "shapes", "S4 signals_differ"),
    ):
        monkeypatch.setattr(registry.load(kind, name), "waived_laws", {law: REASON})
    found = waiver_notes(registry, [experiment_from({})], ["rand"])
    assert set(found) == {
        f"dataset shapes waives S4: {REASON}",
        f"prior gpt waives R2: {REASON}",
        f"features rand waives F4: {REASON}",
    }


def test_terminal_json_and_page_of_a_comparison_show_the_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EMAQuantizer, "waived_laws", WAIVED)
    line = ["-p", "toy_components", "compare", "--prior", "independent", "--out", str(tmp_path / "c"), *settings()]
    done = CliRunner().invoke(dvgen, line, standalone_mode=False)
    assert done.exception is None, done.exception
    (found,) = json.loads((tmp_path / "c" / "results.json").read_text())["groups"]
    assert [note for note in found["notes"] if "waives" in note] == [NOTE]
    assert " ".join(done.stdout.split()).count(NOTE) == 1
    assert NOTE in Page((tmp_path / "c" / "report.html").read_text()).text
