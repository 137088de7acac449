"""The tutorials of data, features and recipes are true: what a page prints is built, tested, held to its rules and compared."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from doc_pages import ROOT, blocks
from test_docs_commands import commands, parsed, resolve
from tiny_experiment import experiment_file, invoke
from tutorial_pages import command_blocks, importable, keeps_its_contract, made, own_tests_pass

from dvgen.discovery import discover


class Tutorial(NamedTuple):
    """What a page makes."""

    page: str
    kind: str
    name: str


TUTORIALS = [
    Tutorial("tutorial_dataset.md", "dataset", "npz"),
    Tutorial("tutorial_dataset.md", "code-source", "even"),
    Tutorial("tutorial_features.md", "features", "spectrum"),
    Tutorial("tutorial_recipe.md", "recipe", "fsq-tiny"),
]
PAGES = sorted({tutorial.page for tutorial in TUTORIALS})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The distributions of all pages by the name of their component, built from the pages alone, and importable."""
    place = tmp_path_factory.mktemp("tutorials")
    found = {tutorial.name: made(*tutorial, place) for tutorial in TUTORIALS}
    with importable(*found.values()):
        yield found


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the small experiment tiny.toml."""
    monkeypatch.chdir(tmp_path)
    experiment_file(tmp_path, evaluate={"samples": 16, "maps": 1, "features": ["rand"]})
    return tmp_path


def module(name: str) -> str:
    return f"dvgen-{name}".replace("-", "_")


def compared(name: str, *arguments: object) -> dict[str, Any]:
    """The only table of a comparison."""
    told = invoke("compare", *arguments, "--accelerator", "cpu", "--json", plugin=module(name))
    (group,) = json.loads(told.stdout)["groups"]
    return dict(group)


def written(folder: Path) -> str:
    """A file of images as the data set's tutorial describes it."""
    rng = np.random.default_rng(0)
    sizes = {"train": 16, "val": 8, "test": 8}
    images = {f"{part}_images": rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8) for part, n in sizes.items()}
    labels = {f"{part}_labels": (np.arange(n) % 2).reshape(n, 1) for part, n in sizes.items()}
    np.savez(folder / "images.npz", **images, **labels)  # type: ignore[arg-type]
    return str(folder / "images.npz")


def entropy(places: int) -> float:
    """Of a draw of the source with its defaults, in nats, by going through the states one place after the other."""
    codes = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.3, 0.01)]
    outside, total = 1.0, 0.0
    for _ in range(places):
        total += outside * codes[0] + (1 - outside) * codes[1]
        outside = 0.3 * outside + 1 - outside
    return total


@pytest.mark.parametrize("name", [tutorial.name for tutorial in TUTORIALS])
def test_its_own_tests_pass(name: str, folders: dict[str, Path]) -> None:
    own_tests_pass(folders[name])


@pytest.mark.parametrize("name", [tutorial.name for tutorial in TUTORIALS])
def test_it_keeps_the_rules(name: str, folders: dict[str, Path]) -> None:
    keeps_its_contract(folders[name])


def test_the_data_set_keeps_its_contract_on_a_file(folders: dict[str, Path], small: Path) -> None:
    """`dvgen check` of its folder knows no file; this is the command that the page shows."""
    told = invoke("check", f"npz:{written(small)}", "--examples", 1, "--json", plugin=module("npz"))
    laws = [rule["name"] for check in json.loads(told.stdout)["checks"] for rule in check["rules"] if rule["state"] == "kept"]
    assert {f"S{i}" for i in range(1, 16)} - {"S9", "S10"} <= set(laws)


@pytest.mark.slow
def test_the_data_set_is_compared(folders: dict[str, Path], small: Path) -> None:
    group = compared("npz", "--config", "tiny.toml", "--data", f"npz:{written(small)}", "--set", "data.pad=4", "--labels")
    assert group["tokenizer"]["data"] == "npz"
    assert group["tokenizer"]["codes_per_image"] == 6 * 6  # of 24 x 24 pixels, the rim included
    assert group["rows"][0]["verification"]["verified"]


@pytest.mark.slow
def test_the_source_is_compared_and_its_entropy_is_the_floor(folders: dict[str, Path], small: Path) -> None:
    sizes = [f"data.{split}={n}" for split, n in (("train", 32), ("validation", 8), ("test", 16))]
    grid = [part for text in ("data.grid=[3, 4]", *sizes) for part in ("--set", text)]
    group = compared("even", "--config", "tiny.toml", "--data", "truth:even", *grid)
    assert group["tokenizer"]["entropy_nats_per_image"] == pytest.approx(entropy(3 * 4))
    assert "excess" in group["rows"][0]["measurements"]


@pytest.mark.slow
def test_the_features_are_measured_under_their_own_name(folders: dict[str, Path], small: Path) -> None:
    group = compared("spectrum", "--config", "tiny.toml", "--metric", "fd-spectrum")
    names = json.dumps(group)
    assert "[spectrum:v1]" in names
    assert "rand:v2" not in names


def test_the_recipe_is_shown_as_the_page_says(folders: dict[str, Path]) -> None:
    told = invoke("recipes", "fsq-tiny", plugin=module("fsq-tiny")).stdout.strip()
    assert told in (ROOT / "docs" / "tutorial_recipe.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_recipe_is_compared(folders: dict[str, Path], small: Path) -> None:
    changed = ("data.shapes=2", "data.positions=3", "evaluate.samples=4", "evaluate.maps=1", "prior.dim=8")
    short = ["--tokenizer-budget", "steps:1", "--budget", "steps:1", *(part for text in changed for part in ("--set", text))]
    group = compared("fsq-tiny", "--recipe", "fsq-tiny", *short)
    assert group["tokenizer"]["name"] == "fsq"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses_and_names_what_there_is(
    page: str, folders: dict[str, Path], small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [line for block in command_blocks(page) for line in commands(block.text)]
    assert shown
    plugins = discover([module(name) for name in folders])
    for line in shown:
        resolve(plugins, *parsed(line, monkeypatch))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_names_its_component_is_marked(page: str) -> None:
    """An unmarked one would be resolved without the plugin."""
    names = [tutorial.name for tutorial in TUTORIALS if tutorial.page == page]
    for block in blocks(ROOT / "docs" / page):
        if block.language == "bash" and not block.marker:
            plain = re.sub(r"dvgen new \S+ \S+|dvgen-\S+", "", block.text)
            assert not any(re.search(rf"\b{name}\b", plain) for name in names), block.text


def test_the_script_writes_a_file_that_the_data_set_reads(folders: dict[str, Path], small: Path) -> None:
    pytest.importorskip("sklearn")
    (script,) = (block.text for block in blocks(ROOT / "docs" / "tutorial_dataset.md") if block.marker == "data: digits.npz")
    exec(compile(script, "digits", "exec"), {})
    told = invoke("data", "npz:digits.npz", plugin=module("npz")).stdout.strip()
    assert told in (ROOT / "docs" / "tutorial_dataset.md").read_text(encoding="utf-8")


def test_noise_and_blur_lie_apart_in_the_space_of_spectra(folders: dict[str, Path]) -> None:
    """What the space is for: an image without its finest details has less power in the last rings, and in those alone."""
    registry = discover([module("spectrum")]).registry
    kind: Any = registry.load("features", "spectrum")
    features = kind(kind.Config(), channels=3)
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    transformed = torch.fft.fft2(images)
    fine = torch.hypot(torch.fft.fftfreq(32).unsqueeze(1), torch.fft.fftfreq(32)) > 0.4
    blurred = torch.fft.ifft2(transformed.masked_fill(fine, 0)).real
    lost = (features(images) - features(blurred)).mean(dim=0)
    assert lost[:9].abs().max() < 1e-3
    assert lost[10:].min() > 5
