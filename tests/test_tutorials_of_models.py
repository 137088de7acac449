"""The tutorials of encoders, discriminators and losses are true: what they print works, and breaks as they say."""

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_docs_commands import commands, parsed, resolve
from tiny_experiment import experiment_file, invoke, private_imports
from tutorial_pages import command_blocks, importable, keeps_its_contract, made, own_tests_pass

from dvgen.contracts.autoencoder_subject import AutoencoderSubject
from dvgen.contracts.components import broken_laws, laws_of
from dvgen.contracts.model_subject import Example, ModelSubject
from dvgen.contracts.signal_subject import AdversarialLossSubject, DiscriminatorSubject, LossSubject
from dvgen.discovery import discover

SMALL = {"layers": 1, "channels": 4}
GAME: dict[str, Any] = {"start": 0, "ramp": 1, "discriminator": {"use": "patchgan", **SMALL}, "loss": {"use": "hinge"}}


class Made(NamedTuple):
    """A plugin of a tutorial: its page, kind, name, a loss that is logged with it, and tables of a tiny experiment."""

    page: str
    kind: str
    name: str
    logs: str
    tables: dict[str, Any]


PAIR = {kind: {"use": "convnext", "channels": 8, "blocks": 1} for kind in ("encoder", "decoder")}
CONVNEXT = Made("tutorial_encoder.md", "encoder", "convnext", "mse", PAIR)
SPECTRAL = Made(
    "tutorial_discriminator.md",
    "discriminator",
    "spectral",
    "generator",
    {"adversarial": GAME | {"discriminator": {"use": "spectral", **SMALL}}},
)
FFL = Made("tutorial_loss.md", "loss", "ffl", "ffl", {"loss": [{"use": "mse"}, {"use": "ffl", "weight": 0.5}]})
WASSERSTEIN = Made(
    "tutorial_loss.md", "adversarial-loss", "wasserstein", "generator", {"adversarial": GAME | {"loss": {"use": "wasserstein"}}}
)
ALL = (CONVNEXT, SPECTRAL, FFL, WASSERSTEIN)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The distributions of all pages, by name."""
    into = tmp_path_factory.mktemp("tutorials")
    return {one.name: made(one.page, one.kind, one.name, into) for one in ALL}


@pytest.fixture
def at_hand(folders: dict[str, Path]) -> Iterator[list[str]]:
    """All of them can be imported; their packages."""
    with importable(*folders.values()) as packages:
        yield packages


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_its_own_tests_pass(one: Made, folders: dict[str, Path]) -> None:
    with importable(folders[one.name]):
        own_tests_pass(folders[one.name])


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_it_keeps_its_contract_and_imports_only_what_is_public(one: Made, folders: dict[str, Path]) -> None:
    with importable(folders[one.name]) as (package,):
        keeps_its_contract(folders[one.name])
    assert private_imports(folders[one.name], package) == set()


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_it_trains(one: Made, folders: dict[str, Path], tmp_path: Path) -> None:
    """A step of each stage, in which the game has both players."""
    with importable(folders[one.name]) as (package,):
        path = experiment_file(tmp_path, **one.tables)
        invoke("train", "--config", path, "--accelerator", "cpu", "--out", tmp_path / "run", plugin=package)
    assert f'"{one.logs}"' in (tmp_path / "run" / "tokenizer" / "metrics.jsonl").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_it_is_compared(one: Made, folders: dict[str, Path], tmp_path: Path) -> None:
    with importable(folders[one.name]) as (package,):
        path = experiment_file(tmp_path, **one.tables, evaluate={"samples": 4, "maps": 0})
        arguments = ("--config", path, "--accelerator", "cpu", "--metric", "fd-rand", "--out", tmp_path / "grid", "--json")
        done = invoke("compare", *arguments, plugin=package)
    assert one.name in done.stdout


@pytest.mark.parametrize("page", sorted({one.page for one in ALL}))
def test_the_commands_that_name_it_parse_and_name_what_there_is(
    page: str, at_hand: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = discover(at_hand)
    lines = [line for block in command_blocks(page) for line in commands(block.text)]
    assert {line[0] for line in lines} == {"check", "compare"}
    for line in lines:
        resolve(plugins, *parsed(line, monkeypatch))


class Mistake(NamedTuple):
    """A line of a file that is replaced, and the laws that are then broken; none where only a test of its own can know."""

    file: str
    old: str
    new: str
    laws: str


MISTAKES = {
    "convnext": [
        Mistake("encoder.py", 'Rearrange("b c (h y) (w x) -> b (c y x) h w", y=side, x=side)', "nn.PixelUnshuffle(side)", "M7"),
        Mistake("encoder.py", "(divided(size, self.config.downsample),)",
                "(tuple(side // self.config.downsample for side in size),)", "E5"),
        Mistake("encoder.py", 'single_width(dims, "encoder", "convnext")', "dims[0]", "E1"),
        Mistake("encoder.py", 'single_width(dims, "encoder", "convnext")', "config.channels", "E1 E2"),
        Mistake("decoder.py", "side = config.downsample", "side = 2 * config.downsample", "D1"),
        Mistake("decoder.py", "cast(nn.Parameter, self.last.weight)", "cast(nn.Parameter, self.layers[0].weight)", "D4"),
        Mistake("encoder.py", "cls.Config(channels=8, blocks=1, downsample=2)", "cls.Config()", "M10"),
        Mistake("decoder.py", "b (c y x) h w", "b (c x y) h w", ""),
    ],
    "spectral": [
        Mistake("convolution.py", "if self.training:", "if True:", "M1"),
        Mistake("convolution.py", 'self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))',
                "self.left = F.normalize(torch.randn(outputs), dim=0)", "M3 M5"),
        Mistake("discriminator.py", "[SpectralConv2d(width, outgoing, kernel=4, stride=2), nn.LeakyReLU(0.2)]",
                "[nn.utils.parametrizations.spectral_norm(nn.Conv2d(width, outgoing, 4, 2, 1)), nn.LeakyReLU(0.2)]", "M3"),
        Mistake("discriminator.py", "return logits", "return logits.mean(dim=(2, 3))", "G1"),
        Mistake("convolution.py", "sigma.clamp(min=1e-12)", "sigma.detach()", ""),
        Mistake("convolution.py", "self.left.clone()", "self.left", ""),
    ],
    "ffl": [
        Mistake("loss.py", "power.detach()", "power", "L2"),
        Mistake("loss.py", "torch.where(most > 0, most, 1)", "most", "L1"),
        Mistake("loss.py", "power.amax(dim=axes, keepdim=True)", "power.amax()", "L3"),
        Mistake("loss.py", "* power).mean()", "* power).sum()", "L3"),
        Mistake("loss.py", "if reconstructed.shape != signals.shape:", "if False:", "L4"),
        Mistake("loss.py", "* power).mean()", "* power).mean().float()", "M4"),
    ],
    "wasserstein": [
        Mistake("adversarial_loss.py", "-fake.mean()", "fake.mean()", "A2"),
        Mistake("adversarial_loss.py", "-fake.mean()", "-fake.sum()", "A3"),
        Mistake("adversarial_loss.py", "-fake.mean()", "(-fake).exp().mean()", "A1"),
    ],
}  # fmt: skip


def subject_of(name: str) -> ModelSubject:
    """What the laws are tried on, of a plugin that can be imported."""

    def cls(module: str, kind: str) -> Any:
        return getattr(importlib.import_module(f"dvgen_{name}.{module}"), f"{name.capitalize()}{kind}")

    if name == "convnext":
        return AutoencoderSubject(cls("encoder", "Encoder"), cls("decoder", "Decoder"))
    if name == "spectral":
        return DiscriminatorSubject(cls("discriminator", "Discriminator"))
    if name == "ffl":
        return LossSubject(cls("loss", "Loss"))
    return AdversarialLossSubject(cls("adversarial_loss", "AdversarialLoss"))


@pytest.mark.parametrize(("name", "mistake"), [(name, one) for name, own in MISTAKES.items() for one in own])
def test_a_mistake_of_the_page_breaks_the_law_that_it_names(
    name: str, mistake: Mistake, folders: dict[str, Path], tmp_path: Path
) -> None:
    """The table of typical mistakes, each planted into a copy."""
    folder = shutil.copytree(folders[name], tmp_path / f"dvgen-{name}")
    path = folder / f"dvgen_{name}" / mistake.file
    text = path.read_text(encoding="utf-8")
    assert text.count(mistake.old) == 1
    path.write_text(text.replace(mistake.old, mistake.new), encoding="utf-8")
    named = mistake.laws.split()
    with importable(folder):
        subject = subject_of(name)
        laws = [law for law in laws_of(subject) if law.name in named or not named]
        found = broken_laws(subject, (Example(), Example(batch=3, shape=1, seed=1)), laws)
    assert {told.partition(" ")[0] for told in found} == set(named)
