"""Listing answers at once: nothing that only lists, reads or helps may import torch."""

import os
import resource
import subprocess
import sys

import pytest

LISTING = ["errors", "registry", "hookspecs", "discovery", "config", "experiment", "recipes", "sealed", "seeding"]
HEAVY = "{'torch', 'torchvision', 'lightning_fabric', 'scipy', 'torchmetrics', 'lpips'} & set(sys.modules)"


@pytest.mark.parametrize("module", LISTING)
def test_a_module_of_the_listing_side_imports_nothing_heavy(module):
    code = f"import sys, dvgen.{module}; print(*{HEAVY})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_discovering_every_plugin_imports_nothing_heavy():
    code = f"import sys; from dvgen.discovery import discover; assert discover().registry.supplied; print(*{HEAVY})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def cpu_seconds(*arguments: str) -> float:
    """CPU time of one run of the command line, user and system; the time of day would measure the neighbours too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "dvgen", *arguments], capture_output=True, check=True, env=os.environ | {"CI": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["plugins", "--json"]])
def test_the_command_line_answers_in_a_fraction_of_the_import_of_torch(arguments):
    """The least of three, because the first run after an installation compiles."""
    assert min(cpu_seconds(*arguments) for _ in range(3)) < 0.6


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"]])
def test_the_command_line_lists_without_anything_heavy(arguments):
    """`-X importtime` writes one line a module on standard error."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dvgen", *arguments], capture_output=True, text=True, check=True
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "dvgen" in imported
    assert {"torch", "torchvision", "lightning_fabric", "scipy", "torchmetrics", "lpips"} & imported == set()
