"""`dvgen new` writes plugins that install beside dvgen, keep their contracts and the rules of style, and can be compared."""

import json
from functools import partial
from pathlib import Path

import pytest
from other_python import OtherPython
from tiny_experiment import experiment_file, invoke

from dvgen.scaffold.kinds import OUTLINES
from dvgen.scaffold.names import Names

MADE = {kind: f"made-{kind}" for kind in OUTLINES}
SHRUNK = ("data.shapes=2", "data.positions=3", "evaluate.samples=4", "evaluate.maps=1")
"""What makes the experiment of the recipe, which takes no file beside it, as small."""


def test_what_was_made_and_what_comes_next_is_told(tmp_path: Path):
    lines = invoke("new", "quantizer", "my-vq", "--into", tmp_path).stdout.splitlines()
    folder = tmp_path / "dvgen-my-vq"
    assert lines[0] == f"{folder}: a quantizer; it works as it is, and is yours to change"
    assert "  dvgen_my_vq/quantizer.py" in lines
    assert lines[lines.index("next:") + 1 :] == [
        f"  pip install -e {folder}",
        "  dvgen check my-vq",
        "  dvgen compare --quantizer ema,my-vq",
    ]


def test_the_folder_in_a_command_is_quoted_where_it_must_be(tmp_path: Path):
    into = tmp_path / "my plugins"
    into.mkdir()
    assert f"  pip install -e '{into}/dvgen-my-vq'" in invoke("new", "quantizer", "my-vq", "--into", into).stdout.splitlines()


def test_the_document_says_the_same(tmp_path: Path):
    document = json.loads(invoke("new", "decoder", "my-net", "--into", tmp_path, "--json").stdout)
    folder = tmp_path / "dvgen-my-net"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(document.pop("files")) == files
    assert document == {
        "schema": 1,
        "kind": "encoder",
        "name": "my-net",
        "distribution": "dvgen-my-net",
        "package": "dvgen_my_net",
        "folder": str(folder),
        "next": [
            f"pip install -e {folder}",
            "dvgen check my-net",
            "dvgen compare --encoder vqvae,my-net --decoder vqvae,my-net",
        ],
    }


def test_a_decoder_is_said_to_come_with_its_encoder(tmp_path: Path):
    told = invoke("new", "decoder", "my-net", "--into", tmp_path)
    assert told.stderr == "a decoder and its encoder are made together\n"
    assert (tmp_path / "dvgen-my-net" / "dvgen_my_net" / "encoder.py").exists()


class Workshop:
    """A virtual environment that sees the packages of this one, and a new plugin of every kind, installed in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = OtherPython(folder / "venv")
        for kind, name in MADE.items():
            invoke("new", kind, name, "--into", folder)
        self.python.install(*(part for kind in MADE for part in ("-e", self.plugin(kind))))
        self.small = experiment_file(folder, evaluate={"samples": 4, "maps": 1, "features": ["rand"]})

    def plugin(self, kind: str) -> Path:
        """The folder of the plugin of a kind."""
        return self.folder / Names(kind, MADE[kind]).distribution


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Made once, for it takes half a minute."""
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", MADE)
def test_a_new_plugin_is_listed_tested_checked_and_compared(kind: str, workshop: Workshop):
    """As its README says: nothing in it is changed."""
    plugin, names = workshop.plugin(kind), Names(kind, MADE[kind])
    ask = partial(workshop.python.ask, plugin)
    listed = json.loads(ask("dvgen", "plugins", "--json"))
    supplied = {(c["kind"], c["distribution"]) for c in listed["components"] if c["name"] == MADE[kind]}
    assert supplied == {(part.kind, f"{names.distribution} 0.1.0") for part in names.outline.parts}
    ask("ruff", "check", ".")
    ask("ruff", "format", "--check", ".")
    ask("mypy", "--strict", "--cache-dir", workshop.folder / "mypy", names.package, "tests")
    ask("dvgen", "check", MADE[kind])
    assert " passed" in ask("pytest", "-q", "-m", "not slow")
    small = [part for text in SHRUNK for part in ("--set", text)] + ["--metric", "fd-rand"]
    small += ["--tokenizer-budget", "steps:1", "--budget", "steps:1"]
    rest = small if kind == "recipe" else ["--config", workshop.small]
    for command in names.compare:
        results = json.loads(ask(*command.split(), *rest, "--accelerator", "cpu", "--json"))
    assert MADE[kind] in json.dumps(results)
