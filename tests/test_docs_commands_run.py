"""Every command of the documentation that computes is run, in a tiny form, and ends as its page says.

`tests/test_docs_commands.py` runs those that answer at once. Of the others this is changed, and nothing else of the line:

* an experiment, after the command has resolved it (`tiny`): budgets of one step of each unit, batches of 4, the smallest data,
  4 samples, random features where none are named, no maps for the range coder; networks stay as large as they are printed;
* `dvgen sample` draws 4, and `dvgen check` tries one example a rule, without the rules that compile;
* `dvgen verify` trains for 80 steps on 512 maps; its prior must be verified all the same;
* the classifier of the two-sample test on codes learns for one step;
* what the line reads is there: a few images, a data file, and the folders that it names, made by a line of the same page, or
  by another tiny one; a run that is resumed has lost all of its second stage.
"""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
from doc_pages import ROOT, marked
from PIL import Image
from test_docs_commands import QUICK, SHOWN
from tiny_experiment import invoke
from tutorial_pages import importable, made

from dvgen.assembly import resolved
from dvgen.cli import options
from dvgen.contracts import quantizer, quantizer_compiled
from dvgen.contracts.law import laws_in
from dvgen.discovery import discover
from dvgen.errors import ConfigError
from dvgen.evaluation import two_sample
from dvgen.experiment import Experiment, Training
from dvgen.recipes import read_recipe
from dvgen.registry import Registry
from dvgen.verify import short_training

pytestmark = pytest.mark.slow
EXAMPLES = (ROOT / "docs" / "example_plugin", *sorted((ROOT / "docs" / "example_plugins").iterdir()))
TUTORIALS = (
    ("tutorial_dataset.md", "dataset", "npz"),
    ("tutorial_dataset.md", "code-source", "even"),
    ("tutorial_discriminator.md", "discriminator", "spectral"),
    ("tutorial_encoder.md", "encoder", "convnext"),
    ("tutorial_features.md", "features", "spectrum"),
    ("tutorial_loss.md", "loss", "ffl"),
    ("tutorial_loss.md", "adversarial-loss", "wasserstein"),
    ("tutorial_recipe.md", "recipe", "fsq-tiny"),
)
SMALLEST = {
    "shapes": 4, "colours": 1, "backgrounds": 1, "positions": 4,
    "timbres": 2, "envelopes": 1, "pitches": 2, "delays": 3,
    "train": 8, "validation": 4, "test": 8,
}  # fmt: skip
"""Fields of data sets and code sources that say how much there is."""
AMOUNTS = {"steps": "1", "codes": "1", "flops": "1", "seconds": "0.001"}
"""Of each unit of a budget: a stage ends with the first step that reaches it."""

LEARNING: Mapping[str, Any] = {
    "SIZES": {"train": 512, "validation": 2, "test": 64},
    "MAPS": 3,
    "SAMPLES": 16,
    "TRAINING": attrs.evolve(short_training.TRAINING, budget="steps:80"),
}
"""What `dvgen verify` trains on, for how long, and how much of it it looks at."""


class Line(NamedTuple):
    """A command of a page, and the marker of its block."""

    page: Path
    marker: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return " ".join(self.words[:2]) if self.words[0] == "weights" else self.words[0]

    @property
    def packages(self) -> list[str]:
        """The plugins that need not be installed beside which it is run: those that its block names, or the first example."""
        kind, colon, names = self.marker.partition(": ")
        if not colon or kind not in ("example", "tutorial"):
            return ["dvgen_example"]
        return [f"dvgen_{name.removeprefix('dvgen-').replace('-', '_')}" for name in names.split(", ")]

    @property
    def read_folders(self) -> list[str]:
        """The folders below runs/ that it names and does not make."""
        pairs = zip(self.words, self.words[1:], strict=False)
        return [word for before, word in pairs if word.startswith("runs/") and before != "--out"]


def large(registry: Registry, names: str) -> bool:
    """Whether one of these recipes is of 256 pixels: minutes a step on a CPU, and most want the weights of a VGG network."""
    known = set(registry.names("recipe"))
    return any(math.prod(read_recipe(registry, name).shape[1:]) >= 256**2 for name in names.split(",") if name in known)


def left_out(line: Line, registry: Registry) -> str:
    """Why a line is not run here; empty for one that is."""
    given = dict(zip(line.words, line.words[1:], strict=False))
    if line.name in ("weights get", "weights add"):
        return "wants the network, or a file from it"
    if "fid" in given.get("--metric", "").split(","):
        return "wants the weights of Inception"
    return "images of 256 pixels" if large(registry, given.get("--recipe", "")) else ""


def lines() -> list[Line]:
    """Every line once that no other test runs."""
    shown = [Line(block.page, block.marker, tuple(words)) for block, words in SHOWN]
    computing = [line for line in shown if line.name not in QUICK or line.marker.startswith("tutorial: ")]
    first: dict[tuple[object, ...], Line] = {}
    for line in computing:
        first.setdefault((line.words, line.marker), line)
    return list(first.values())


LINES = lines()
REGISTRY = discover().registry
RUN = [line for line in LINES if not left_out(line, REGISTRY)]


def brief(training: Training) -> Training:
    """One step, on four signals."""
    unit = training.budget.partition(":")[0]
    return attrs.evolve(training, budget=f"{unit}:{AMOUNTS[unit]}", batch=4 * training.micro_batches)


def tiny(registry: Registry, experiment: Experiment) -> Experiment:
    """In the place of `dvgen.assembly.resolved`: what it gives, on less data and for a step a stage."""
    whole = resolved(registry, experiment)
    fields = {name: SMALLEST.get(name, value) for name, value in whole.data.fields.items()}
    train = attrs.evolve(whole.train, tokenizer=brief(whole.train.tokenizer), prior=brief(whole.train.prior))
    features = whole.evaluate.features or (() if whole.data.truth else ("rand",))
    evaluate = attrs.evolve(whole.evaluate, samples=4, batch=4, grid=4, maps=0, features=features)
    return attrs.evolve(whole, data=attrs.evolve(whole.data, fields=fields), train=train, evaluate=evaluate)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Experiments, contracts and verifications of this module are tiny."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "resolved", tiny)
        patch.setattr(two_sample, "STEPS", 1)
        compiled = laws_in(quantizer_compiled)
        patch.setattr(quantizer, "LAWS", tuple(law for law in quantizer.LAWS if law not in compiled))
        for name, value in LEARNING.items():
            patch.setattr(short_training, name, value)
        yield


@pytest.fixture(scope="module", autouse=True)
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The examples, and what the tutorials make, can be imported."""
    into = tmp_path_factory.mktemp("tutorials")
    with importable(*EXAMPLES, *(made(*tutorial, into) for tutorial in TUTORIALS)):
        yield


@pytest.fixture(scope="module")
def readers_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted in the working folder: images, CIFAR-10, a set of digits, and an experiment."""
    folder = tmp_path_factory.mktemp("reader")
    random = np.random.default_rng(0)
    for kind in ("images/a", "images/b", "cifar/train/a", "cifar/train/b", "cifar/test/a", "cifar/test/b"):
        place = folder / "path" / "to" / kind
        place.mkdir(parents=True)
        for i in range(25):
            Image.fromarray(random.integers(0, 256, (36, 40, 3), dtype=np.uint8)).save(place / f"{i}.png")
    images, labels = random.integers(0, 256, (20, 32, 32), dtype=np.uint8), np.arange(20) % 10
    np.savez(folder / "digits.npz", train_images=images, train_labels=labels, test_images=images[::-1], test_labels=labels)
    (folder / "experiment.toml").write_text(marked("docs/experiments.md", "example: experiment.toml"), encoding="utf-8")
    return folder


def run(line: Line, folder: Path) -> None:
    """Run a line in a folder with its plugins; raises what the command raises."""
    more = {"sample": ["-n", "4"], "check": ["--examples", "1"]}.get(line.name, [])
    switches = [word for package in line.packages for word in ("-p", package)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        invoke(*switches, *line.words, *more)


@pytest.fixture(scope="module")
def folder_of(readers_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Line, str], Path]:
    """The finished run or comparison that a line means by a folder: as the same page makes it, or another; made once."""
    done: dict[Line, Path] = {}

    def find(line: Line, place: str) -> Path:
        makers = [one for one in RUN if one.page == line.page and place in one.words and place not in one.read_folders]
        kind = ("compare", "--prior", "gpt,pixelcnn") if line.name in ("compare", "report") else ("train", "--labels")
        maker = makers[0] if makers else Line(ROOT, "", (*kind, "--out", "runs/other"))
        if maker not in done:
            folder = tmp_path_factory.mktemp("made") / "work"
            shutil.copytree(readers_files, folder)
            run(maker, folder)
            done[maker] = folder
        return done[maker] / (place if makers else "runs/other")

    return find


@pytest.mark.parametrize("line", RUN, ids=lambda line: " ".join(line.words))
def test_every_command_shown_that_computes_ends_well(line: Line, readers_files: Path, folder_of, tmp_path: Path) -> None:
    work = shutil.copytree(readers_files, tmp_path / "work")
    for place in line.read_folders:
        copied = shutil.copytree(folder_of(line, place), work / place)
        if "--resume" in line.words:
            shutil.rmtree(copied / "checkpoints")
    if not line.marker.startswith("fault"):
        run(line, work)
        return
    with pytest.raises(ConfigError) as caught:
        run(line, work)
    told = [f"dvgen: {fault}" for fault in str(caught.value).splitlines()]
    assert marked(line.page.relative_to(ROOT).as_posix(), line.marker.replace("fault", "answer")).splitlines() == told


LEFT_OUT = {
    "wants the network, or a file from it": {
        "weights get weights-inception-2015-12-05-6726825d.pth --allow-download",
        "weights get alexnet-owt-7be5be79.pth --allow-download",
        "weights add downloads/weights-inception-2015-12-05-6726825d.pth",
    },
    "wants the weights of Inception": {
        "compare --prior pixelsnail,gpt --data cifar10:path/to/cifar --metric fid --set evaluate.samples=10000",
        "compare --prior pixelsnail,gpt --metric fid,fd-rand --set evaluate.samples=10000",
    },
    "images of 256 pixels": {
        "train --recipe dalle-dvae --data folder:path/to/images --out runs/dvae",
        "train --recipe vqgan-gumbel-f8 --data folder:path/to/images --out runs/gumbel",
        "train --recipe vqgan-imagenet-f16 --data folder:path/to/images --out runs/f16",
    },
}
"""Every line that is not run, by the reason; `tests/test_docs_commands.py` parses and resolves these too."""


def test_lines_that_are_not_run_are_known_and_no_command_is_without_a_line() -> None:
    reasons = {line: left_out(line, REGISTRY) for line in LINES}
    found = {why: {" ".join(line.words) for line in LINES if reasons[line] == why} for why in set(reasons.values()) - {""}}
    assert found == LEFT_OUT
    assert {"train", "compare", "evaluate", "sample", "verify", "report", "check"} <= {line.name for line in RUN}
