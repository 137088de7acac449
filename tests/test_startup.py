"""Listing answers at once: nothing that only lists, reads or helps may import torch, and help imports next to nothing."""

import os
import resource
import subprocess
import sys

import pytest
from test_docs_commands import every_command

from dvgen.cli import COMMANDS, group

LISTING = ["errors", "registry", "hookspecs", "discovery", "config", "experiment", "recipes", "sealed", "seeding"]
BESIDE_TORCH = {"torchvision", "lightning_fabric", "scipy", "torchmetrics", "torch_fidelity", "lpips", "matplotlib"}
HEAVY = {"torch"} | BESIDE_TORCH
COMMAND_LINES = """
import sys
from dvgen.cli import main

for line in sys.argv[1:]:
    try:
        main(line.split())
    except SystemExit as left:
        assert left.code == 0, line
"""


def imported(code: str, *arguments: str) -> set[str]:
    """The modules that are there when a fresh interpreter has run some code.

    Not those of `-X importtime`, which does not see what importlib.import_module imports, and that is how plugins come.
    """
    run = f"exec({code!r}); import sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", run, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("module", LISTING)
def test_a_module_of_the_listing_side_imports_nothing_heavy(module):
    found = imported(f"import dvgen.{module}")
    assert f"dvgen.{module}" in found
    assert not found & HEAVY


def test_discovering_every_plugin_imports_nothing_heavy():
    found = imported("from dvgen.discovery import discover; assert discover().registry.supplied")
    assert {"dvgen_gpt", "dvgen_images"} <= found
    assert not found & HEAVY


@pytest.mark.parametrize("line", ["plugins", "plugins --json", "recipes", "recipes vqvae-tiny --toml"])
def test_the_command_line_lists_without_anything_heavy(line):
    found = imported(COMMAND_LINES, line)
    assert "dvgen_gpt" in found
    assert not found & HEAVY


def test_what_opens_what_it_lists_imports_torch_and_nothing_heavy_beside_it():
    """A data set holds tensors, and the parameters of a recipe are those of its modules."""
    found = imported(COMMAND_LINES, "data shapes", "recipes vqvae-tiny")
    assert {"torch", "dvgen_images.shapes", "dvgen.training.outline"} <= found
    assert not found & BESIDE_TORCH


def test_the_help_of_every_command_imports_nothing_heavy():
    paths = [path for path, _ in every_command()]
    assert {"train", "compare diff", "weights get"} <= set(paths)
    found = imported(COMMAND_LINES, *(f"{path} --help" for path in paths))
    assert {entry.place.partition(":")[0] for entry in COMMANDS.values()} <= found
    assert not found & HEAVY


def test_the_help_of_dvgen_imports_no_command_and_no_library_but_click():
    """What it does not need is what it waited for: attrs, cattrs, pluggy, rich, and the metadata of distributions."""
    found = imported(COMMAND_LINES, "--help")
    own = {name for name in found if name.partition(".")[0] == "dvgen" or name.startswith("dvgen_")}
    assert own == {"dvgen", "dvgen.cli", "dvgen.cli.on_demand", "dvgen.errors"}
    assert not found & {"attr", "cattrs", "importlib.metadata", "pluggy", "rich"}


def test_the_line_of_a_command_in_the_help_is_its_own():
    """The lines stand beside the commands, which the help does not import; nothing else keeps the two equal."""
    assert {name: (command.name, command.short_help) for name, command in group.commands.items()} == {
        name: (name, entry.line) for name, entry in COMMANDS.items()
    }


def test_an_unknown_command_is_told_with_the_nearest(capfd):
    subprocess.run([sys.executable, "-m", "dvgen", "trian"], check=False)
    assert capfd.readouterr().err == "dvgen: No such command 'trian'. Did you mean 'train'?\n"


def cpu_seconds(*arguments: str) -> float:
    """CPU time of one interpreter, user and system; the time of day would measure the neighbours too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True, env=os.environ | {"CI": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(("arguments", "times"), [(["--help"], 2.0), (["plugins"], 5.0), (["recipes"], 5.0)])
def test_the_command_line_takes_a_few_times_as_long_as_importing_click(arguments, times):
    """A ratio, because machines differ: where `dvgen --help` may take 0.25 s of CPU time, importing click takes 0.04 s, so
    that the bar is six times as much. The least of five runs that take turns, because the first one compiles."""
    ours, click = zip(
        *((cpu_seconds("-m", "dvgen", *arguments), cpu_seconds("-c", "import click")) for _ in range(5)), strict=True
    )
    assert min(ours) < times * min(click)
