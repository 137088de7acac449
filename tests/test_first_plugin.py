"""The tutorial is true: its files are the example's, its code runs, and the plugin trains, is measured and installs."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from doc_pages import ROOT, blocks, marked, named, read, section
from example_pages import files_of, run_python, shown_files
from other_python import OtherPython
from tiny_experiment import experiment_file, invoke, private_imports

from dvgen.discovery import discover

PAGE = "docs/first_plugin.md"
EXAMPLE = ROOT / "docs" / "example_plugin"
ROUND = {"use": "round", "steps": 3}
dvgen = partial(invoke, plugin="dvgen_example")


@pytest.fixture(scope="module", autouse=True)
def example():
    """The example plugin where Python finds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.toml; runs of a module's tests lie beside it."""
    return experiment_file(tmp_path_factory.mktemp("first_plugin"), quantizer=ROUND).parent


@pytest.fixture(scope="module")
def run(tiny: Path) -> Path:
    """A run of the plugin's quantizer, trained, measured and sampled."""
    dvgen("train", "--config", tiny / "tiny.toml", "--accelerator", "cpu", "--out", tiny / "run")
    dvgen("evaluate", tiny / "run", "--accelerator", "cpu")
    dvgen("sample", tiny / "run", "-n", 2, "--accelerator", "cpu")
    return tiny / "run"


def test_the_files_of_the_tutorial_are_those_of_the_example():
    assert shown_files(ROOT / PAGE) == files_of(EXAMPLE)
    assert (EXAMPLE / "dvgen_example" / "py.typed").read_text() == ""


def test_the_example_imports_only_what_is_public():
    assert private_imports(EXAMPLE, "dvgen_example") == set()


def test_the_python_of_the_tutorial_runs():
    run_python(ROOT / PAGE)


def test_the_plugin_is_admitted_and_its_class_is_loaded():
    registry = discover(["dvgen_example"]).registry
    assert registry.failures == []
    assert registry.load("quantizer", "round").__name__ == "RoundQuantizer"


@pytest.mark.parametrize(("steps", "dim"), [(2, 1), (3, 3), (8, 2)])
def test_every_code_comes_back_from_its_vector(steps, dim):
    import torch

    cls = discover(["dvgen_example"]).registry.load("quantizer", "round")
    quantizer = cls(cls.Config(steps=steps, dim=dim))
    codes = (torch.arange(steps**dim).reshape(1, -1),)
    vectors = quantizer.decode(codes)
    assert len(vectors[0].T.unique(dim=0)) == steps**dim
    inverse = vectors.clamp(-0.999999, 0.999999).atanh()
    assert torch.equal(quantizer.encode(inverse)[0], codes[0])


def test_everything_in_a_run_folder_stands_in_the_readme(run: Path):
    text = next(b.text for b in blocks(ROOT / "README.md") if b.text in section(read("README.md"), "Where things lie"))
    listed = {line.split()[0].strip("/") for line in text.splitlines()}
    assert {path.name for path in run.iterdir()} == {name for name in listed if "/" not in name}
    assert {name for name in listed if not (run / name).exists()} == set()


def keys(value: Any) -> set[str]:
    """Every key of a document, but those of tables whose keys are names of something else."""
    if isinstance(value, list):
        return set().union(*map(keys, value))
    if not isinstance(value, dict):
        return set()
    free = {"experiment", "protocol", "versions", "images"}
    inner = [keys(part) for name, part in value.items() if name not in free]
    spaces = "|".join(discover().registry.names("features"))
    named_of = {re.sub(f"/({spaces})$", "/F", name) for name in value}
    return {re.sub(r"/(?!F$).*", "/LEVEL", name) for name in named_of}.union(*inner)


def test_every_field_of_the_results_is_told(tiny: Path):
    grid = ["--config", tiny / "tiny.toml", "--prior", "gpt,pixelsnail", "--accelerator", "cpu", "--out", tiny / "grid"]
    results = json.loads(dvgen("compare", *grid, "--json").stdout)
    assert results["groups"][0]["verdicts"]
    assert results["groups"][0]["tokenizer"]["name"] == "round"
    assert keys(results) - named(section(read("docs/experiments.md"), "results.json")) == set()


@pytest.mark.slow
def test_the_example_installs_beside_dvgen_and_is_listed_and_compared(tmp_path: Path):
    """In a virtual environment of its own, which sees the packages of this one."""
    other = OtherPython(tmp_path / "venv")
    other.install(EXAMPLE)
    assert marked(PAGE, "listed").split() in [line.split() for line in other.ask(tmp_path, "dvgen", "plugins").splitlines()]
    grid = ["--config", experiment_file(tmp_path, quantizer=ROUND), "--quantizer", "ema,round", "--accelerator", "cpu"]
    compared = json.loads(other.ask(tmp_path, "dvgen", "compare", *grid, "--json"))
    assert [found["tokenizer"]["name"] for found in compared["groups"]] == ["ema", "round"]
