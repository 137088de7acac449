"""Rule: `dvgen check` finds what it is told to check, says what it found, and its exit code is the verdict."""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from check_mistakes import MISTAKES, write_plugin
from click.testing import CliRunner, Result
from doc_pages import ROOT
from toy_runs import dvgen

from dvgen.checking.targets import groups
from dvgen.cli.check import check
from dvgen.discovery import discover
from dvgen.errors import DvgenError, PluginError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(check, arguments, obj=discover)


def names(target: str) -> list[tuple[str, ...]]:
    return [tuple(f"{one.kind}:{one.name}" for one in group) for group in groups(target, discover())]


@pytest.fixture
def no_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the rules of packages are tried."""
    import dvgen.checking.running

    monkeypatch.setattr(dvgen.checking.running, "contract_of", lambda *_: None)


def test_a_name_a_kind_a_plugin_and_a_distribution_are_found() -> None:
    assert names("fsq") == names("quantizer:fsq") == [("quantizer:fsq",)]
    assert names("binary") == [("quantizer:lfq",), ("quantizer:bsq",)]
    assert len(names("dvgen")) > 40


def test_an_encoder_and_its_decoder_are_checked_together() -> None:
    pair = ("encoder:vqvae2", "decoder:vqvae2")
    assert names("encoder:vqvae2") == names("decoder:vqvae2") == [pair]
    assert pair in names("vqvae2")


def test_a_plugin_that_cannot_be_loaded_is_told_with_its_line(tmp_path: Path) -> None:
    write_plugin(tmp_path, "dvgen_unloadable", "quantizer")
    listing = tmp_path / "dvgen_unloadable" / "__init__.py"
    listing.write_text("import dvgen\n\nx = dvgen.nothing_of_the_kind\n", encoding="utf-8")
    error = run(str(tmp_path)).exception
    assert isinstance(error, PluginError)
    assert error.exit_code == 5
    assert "nothing_of_the_kind" in str(error)
    assert f"{listing}:3" in str(error)


def test_without_hypothesis_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvgen.cli.check.find_spec", lambda name: None if name == "hypothesis" else find_spec(name))
    error = run("fsq").exception
    assert isinstance(error, DvgenError)
    assert error.exit_code == 2
    assert "pip install 'dvgen[contracts]'" in str(error)


def test_the_path_of_a_folder_does_not_stay(tmp_path: Path, no_contract: None) -> None:
    before = list(sys.path)
    assert run(str(write_plugin(tmp_path, "dvgen_passing", "quantizer"))).exit_code == 0
    assert sys.path == before


def test_text_says_rule_finding_place_and_cause_and_ends_in_markdown(tmp_path: Path, no_contract: None) -> None:
    mistake = MISTAKES["no-bounds"]
    done = run(str(write_plugin(tmp_path, "dvgen_unbounded", "quantizer", mistake)))
    assert done.exit_code == 5
    assert done.stdout.startswith(
        "quantizer round: 6 rules kept, 1 rules broken\n\nBROKEN K4: every number of Config has a bound"
    )
    assert "found:   Config.steps has no bound" in done.stdout
    assert re.search(r"where:   .*component\.py:\d+: steps: int = 8", done.stdout)
    assert "usually: A field without a validator" in done.stdout
    table = done.stdout[done.stdout.index("Checked with") :]
    assert "| quantizer round | K: package and config | 6 | 1 | 0 |" in table


def test_json_is_one_document(no_contract: None) -> None:
    done = run("fsq", "--json")
    document = json.loads(done.stdout)
    assert document["kept"] is True
    assert document["schema"] == 1
    (part,) = document["checks"]
    assert part["components"][0]["name"] == "fsq"
    assert {rule["name"] for rule in part["rules"]} == {"K1", "K2", "K3", "K4", "K5", "K6", "K7"}


def test_the_quantizer_of_the_documentation_keeps_its_rules(no_contract: None) -> None:
    assert run(str(ROOT / "docs" / "example_plugin")).exit_code == 0


def test_a_contract_that_was_not_tried_is_told_also_in_the_summary() -> None:
    done = run("dataset:folder")
    assert done.exit_code == 0
    assert "* dataset folder: its contract was not tried: folder is read from files; say where they are" in done.stdout


def test_the_command_of_the_summary_is_the_whole_command(no_contract: None) -> None:
    """Whoever repeats it does the same."""
    first = run("fsq", "--slow", "--examples", "2").stdout
    assert "Checked with `dvgen check fsq --slow --examples 2` (dvgen" in first


def test_what_a_plugin_prints_does_not_reach_standard_output(tmp_path: Path, no_contract: None) -> None:
    write_plugin(tmp_path, "dvgen_talking", "quantizer")
    for path in (tmp_path / "dvgen_talking").glob("*.py"):
        path.write_text(path.read_text(encoding="utf-8") + "\nprint('here I am')\n", encoding="utf-8")
    done = run(str(tmp_path), "--json")
    assert json.loads(done.stdout)["kept"] is True
    assert "here I am" in done.stderr


def test_where_there_is_no_terminal_there_is_no_bar(no_contract: None) -> None:
    assert run("fsq").stderr == ""


def screen(drawn: str) -> list[str]:
    """The lines that are left on a terminal after all that was drawn: lines erased, the cursor moved up."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\??[\d;]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", drawn):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part in ("\x1b[2K", "\x1b[1A"):
            lines[row] = lines[row] if part == "\x1b[1A" else ""
            row -= part == "\x1b[1A"
        elif part[0] not in "\x1b\r":
            lines[row] += part
    return lines


@pytest.mark.parametrize("columns", [30, 40, 100])
def test_the_bar_fits_its_line_and_leaves_nothing_behind(columns: int, no_contract: None) -> None:
    """Of a distribution of several components, each reported where the bar was."""
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns)}
    drawn = CliRunner().invoke(check, ["binary"], obj=discover, env=terminal).output
    bars = [part for part in re.split(r"[\r\n]", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", drawn)) if "\u2501" in part]
    assert any("K1 listing" in bar for bar in bars)
    assert max(len(bar.rstrip()) for bar in bars) < columns
    assert "\n".join(screen(drawn)).strip() == run("binary").stdout.strip()


def test_ctrl_c_stops_with_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dvgen.checking.running.contract_of", interrupted)
    assert dvgen("check", "fsq", "--json") == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.split("\n") == ["", "dvgen: interrupted; finished checkpoints are kept", ""]
