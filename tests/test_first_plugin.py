"""The tutorial is true: its files are the example's, its code runs, and the plugin trains, is measured and installs."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from doc_pages import ROOT, blocks, marked, named, read, section

from dvgen.cli import group
from dvgen.discovery import discover

PAGE = "docs/first_plugin.md"
EXAMPLE = ROOT / "docs" / "example_plugin"
TINY = """
[data]
use = "shapes"
shapes = 2
positions = 3
[encoder]
use = "vqvae"
channels = 8
[decoder]
use = "vqvae"
channels = 8
[quantizer]
use = "round"
steps = 3
[prior]
use = "gpt"
layers = 1
dim = 8
[train.tokenizer]
budget = "steps:1"
batch = 4
[train.prior]
budget = "steps:1"
batch = 4
[evaluate]
samples = 4
"""


@pytest.fixture(scope="module", autouse=True)
def example():
    """The example plugin where Python finds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield


def invoke(*arguments: object) -> str:
    """Run `dvgen` with the plugin in this process; its standard output."""
    done = CliRunner().invoke(group, ["-p", "dvgen_example", *map(str, arguments)], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.stdout


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.toml; runs of a module's tests lie beside it."""
    folder = tmp_path_factory.mktemp("first_plugin")
    (folder / "tiny.toml").write_text(TINY)
    return folder


@pytest.fixture(scope="module")
def run(tiny: Path) -> Path:
    """A run of the plugin's quantizer, trained, measured and sampled."""
    invoke("train", "--config", tiny / "tiny.toml", "--accelerator", "cpu", "--out", tiny / "run")
    invoke("evaluate", tiny / "run", "--accelerator", "cpu")
    invoke("sample", tiny / "run", "-n", 2, "--accelerator", "cpu")
    return tiny / "run"


def test_the_files_of_the_tutorial_are_those_of_the_example():
    marked_files = [block for block in blocks(ROOT / PAGE) if block.marker.startswith("file: ")]
    shown = {block.marker.removeprefix("file: "): block.text for block in marked_files}
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml")]
    assert shown == {path.relative_to(EXAMPLE).as_posix(): path.read_text() for path in files}
    assert (EXAMPLE / "dvgen_example" / "py.typed").read_text() == ""


def test_the_example_imports_only_what_is_public():
    text = "\n".join(path.read_text() for path in EXAMPLE.rglob("*.py"))
    imported = set(re.findall(r"^\s*(?:from|import) (dvgen[\w.]*)", text, re.MULTILINE))
    assert {
        name for name in imported if not re.match(r"dvgen(_example|\.interfaces|\.blocks|\.contracts|\.errors|$)", name)
    } == set()


def test_the_python_of_the_tutorial_runs():
    shown = [block for block in blocks(ROOT / PAGE) if block.language == "python" and not block.marker.startswith("file: ")]
    assert shown
    for block in shown:
        exec(compile(block.text, PAGE, "exec"), {"__name__": "tutorial"})


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
    results = json.loads(invoke("compare", *grid, "--json"))
    assert results["groups"][0]["verdicts"]
    assert results["groups"][0]["tokenizer"]["name"] == "round"
    assert keys(results) - named(section(read("docs/experiments.md"), "results.json")) == set()


@pytest.mark.slow
def test_the_example_installs_beside_dvgen_and_is_listed_and_compared(tmp_path: Path):
    """In a virtual environment of its own, which sees the packages of this one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    # a .pth file in a folder that a .pth file adds is not read, unless the folder is added like this
    (site / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")

    def ask(*arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([python, "-m", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ask("pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", str(EXAMPLE))
    assert marked(PAGE, "listed").split() in [line.split() for line in ask("dvgen", "plugins").splitlines()]
    (tmp_path / "tiny.toml").write_text(TINY)
    compared = ask("dvgen", "compare", "--config", "tiny.toml", "--quantizer", "ema,round", "--accelerator", "cpu", "--json")
    assert [found["tokenizer"]["name"] for found in json.loads(compared)["groups"]] == ["ema", "round"]
