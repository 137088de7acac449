"""Rule: `dvgen check` names each mistake that authors make in words, with its file and line; without one it is content."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from check_mistakes import MISTAKES, Mistake, write_plugin
from click.testing import CliRunner, Result

from dvgen.cli.check import check
from dvgen.contracts import components, quantizer, quantizer_compiled
from dvgen.contracts.law import Law, laws_in
from dvgen.contracts.prior_subject import PriorSubject
from dvgen.discovery import discover


def only(monkeypatch: pytest.MonkeyPatch, keep: Callable[[Law], bool]) -> None:
    """Try these laws of contracts alone: all of them take a while."""
    monkeypatch.setattr(quantizer, "LAWS", tuple(law for law in quantizer.LAWS if keep(law)))
    laws = components.LAWS[PriorSubject]
    monkeypatch.setitem(components.LAWS, PriorSubject, tuple(law for law in laws if keep(law)))


def checked(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(check, [str(folder), "--examples", "1", *options], obj=discover)


def broken(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The broken rules of a document, by name and check."""
    rules = [rule for part in document["checks"] for rule in part["rules"]]
    return {f"{rule['name']} {rule['check']}": rule for rule in rules if rule["state"] == "broken"}


@pytest.mark.parametrize("kind", ["quantizer", "prior"])
def test_a_plugin_without_a_mistake_keeps_every_rule(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = laws_in(quantizer_compiled)
    only(monkeypatch, lambda law: law not in compiled)
    done = checked(write_plugin(tmp_path, f"dvgen_sound_{kind}", kind), "--json")
    assert done.exit_code == 0, done.output
    assert broken(json.loads(done.stdout)) == {}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_named_with_its_place(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sought = {mistake.law for mistake in MISTAKES.values()}
    only(monkeypatch, lambda law: f"{law.name} {law.check.__name__}" in sought)
    mistake, package = MISTAKES[name], f"dvgen_mistake_{name.replace('-', '_')}"
    done = checked(write_plugin(tmp_path, package, mistake.kind, mistake), "--json")
    assert done.exit_code == 5, done.output
    found = broken(json.loads(done.stdout))
    assert mistake.law in found
    rule = found[mistake.law]
    said = f"{rule['found']} {rule['usual_cause']}"
    assert all(word in said for word in mistake.words), said
    file = tmp_path / package / mistake.file
    lines = [line for line in (rule["place"], *rule["ran"]) if line and mistake.place in line["text"]]
    assert lines, rule
    for line in lines:
        assert Path(line["file"]) == file
        assert file.read_text(encoding="utf-8").splitlines()[line["line"] - 1].strip() == line["text"]


def test_the_mistakes_are_ten() -> None:
    assert len(MISTAKES) == 10


def misspelt(right: str, wrong: str) -> Mistake:
    return Mistake("quantizer", right, wrong, "", (), "")


def test_an_error_on_the_first_call_is_named_with_its_place(tmp_path: Path) -> None:
    """What applies to a quantizer is found by calling it: an error there is the plugin's, and no fault of dvgen."""
    slip = misspelt("squashed = rows.values.tanh()", "squashed = rows.valuess.tanh()")
    done = checked(write_plugin(tmp_path, "dvgen_misspelt_forward", "quantizer", slip))
    assert done.exit_code == 5, done.output
    (broken,) = [line for line in done.stdout.splitlines() if line.startswith("BROKEN")]
    assert broken.startswith("BROKEN K6")
    for words in ("AttributeError", "rows.valuess.tanh()", "misspelt", "its contract was not tried"):
        assert words in done.stdout


def test_one_error_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many laws it stands in the way of; their own causes would mislead."""
    only(monkeypatch, lambda law: law.name in ("P4", "P5", "P6", "P7", "P8", "P9"))
    slip = misspelt(
        "    def decode(self, codes: Codes) -> Tensor:", "    def decode(self, codes: Codes) -> Tensor:\n        nobody"
    )
    done = checked(write_plugin(tmp_path, "dvgen_misspelt_decode", "quantizer", slip))
    assert done.exit_code == 5, done.output
    assert done.stdout.count("found:   NameError") == 1
    assert "also:    the same error stands in the way of P" in done.stdout
    assert "misspelt" in done.stdout
