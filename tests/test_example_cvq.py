"""The tutorial of a quantizer is true: its files are the example's, and the quantizer is trained and measured as it says."""

import difflib
import json
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from doc_pages import ROOT, blocks
from example_pages import files_of, shown_files
from tiny_experiment import budgets, experiment_file, invoke, private_imports

from dvgen.contracts.pytest_quantizer import quantizer_contract
from dvgen.discovery import discover
from dvgen.scaffold.names import Names
from dvgen.scaffold.writing import rendered

sys.path.append(str(ROOT / "docs" / "example_plugins" / "dvgen-cvq"))

from dvgen_cvq.lots import draw_lots
from dvgen_cvq.quantizer import CvqQuantizer

EXAMPLE = ROOT / "docs" / "example_plugins" / "dvgen-cvq"
PAGE = ROOT / "docs" / "tutorial_quantizer.md"
MOST = 60
"""Lines that the tutorial promises its reader will have to write at most."""
CVQ = {"use": "cvq", "num_codes": 8, "decay": 0.5}
dvgen = partial(invoke, plugin="dvgen_cvq")


@quantizer_contract(lambda: CvqQuantizer(CvqQuantizer.tiny()), examples=1)
class TestCvqQuantizer:
    """The example keeps the contract of quantizers."""


def words(text: str) -> list[str]:
    """The lines of a file that are not empty, without comments at their end."""
    lines = [re.sub(r"\s+# .*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def test_the_files_of_the_tutorial_are_those_of_the_example() -> None:
    assert shown_files(PAGE) == files_of(EXAMPLE)
    assert (EXAMPLE / "dvgen_cvq" / "py.typed").read_text() == ""


def test_the_steps_of_the_tutorial_are_lines_of_the_file() -> None:
    steps = [block for block in blocks(PAGE) if block.marker == "step"]
    added = [line[1:] for block in steps for line in block.text.splitlines()]
    assert len(added) > 10
    assert set(added) - set((EXAMPLE / "dvgen_cvq" / "quantizer.py").read_text().splitlines()) == set()


def test_the_reader_writes_as_few_lines_as_promised() -> None:
    """Beside what `dvgen new` writes, and the tests of the paper's own equations."""
    begun = rendered(Names("quantizer", "cvq"))
    files = {name: text for name, text in files_of(EXAMPLE).items() if name.endswith(".py")}
    assert set(files) - set(begun) == {"dvgen_cvq/lots.py", "tests/test_running_average.py"}
    written = 0
    for name in set(files) - {"tests/test_running_average.py"}:
        before, after = words(begun.get(name, "")), words(files[name])
        changes = difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes()
        written += sum(to - since for change, _, _, since, to in changes if change != "equal")
    assert 30 < written <= MOST


def test_the_example_imports_only_what_is_public() -> None:
    assert private_imports(EXAMPLE, "dvgen_cvq") == set()


def test_the_plugin_is_admitted_and_its_class_is_loaded() -> None:
    registry = discover(["dvgen_cvq"]).registry
    assert registry.failures == []
    assert registry.load("quantizer", "cvq") is CvqQuantizer


def test_it_trains_and_draws(tmp_path: Path) -> None:
    tiny = experiment_file(tmp_path, quantizer=CVQ, train=budgets(tokenizer=2))
    dvgen("train", "--config", tiny, "--accelerator", "cpu", "--out", tmp_path / "run")
    dvgen("sample", tmp_path / "run", "-n", 2, "--accelerator", "cpu")
    assert list((tmp_path / "run" / "samples").iterdir())
    logged = [json.loads(line) for line in (tmp_path / "run" / "tokenizer" / "metrics.jsonl").read_text().splitlines()]
    assert any("perplexity_0" in json.dumps(line) for line in logged)


@pytest.mark.slow
def test_it_is_compared(tmp_path: Path) -> None:
    tiny = experiment_file(tmp_path, quantizer=CVQ, train=budgets(tokenizer=2))
    told = dvgen("compare", "--config", tiny, "--accelerator", "cpu", "--out", tmp_path / "grid", "--json")
    (found,) = json.loads(told.stdout)["groups"]
    assert found["tokenizer"]["name"] == "cvq"
    (row,) = found["rows"]
    assert row["verification"]["verified"]


@pytest.mark.parametrize("parts", [[40], [13, 0, 27]])
def test_lots_are_the_same_in_any_company(parts: list[int]) -> None:
    """What lets sums over micro-batches and ranks stand for the whole batch."""
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    drawn = [draw_lots(part, 5) for part in features.split(parts)]
    for whole, apart in zip(draw_lots(features, 5), map(torch.cat, zip(*drawn, strict=True)), strict=True):
        assert torch.equal(whole, apart)
