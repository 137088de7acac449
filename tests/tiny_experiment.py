"""Tests of plugins: an experiment that takes seconds, commands that are run in this process, and what a plugin may import."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from click.testing import CliRunner, Result

from dvgen.cli import group

Table = Mapping[str, Any]

PUBLIC = ("interfaces", "blocks", "contracts", "errors")
"""The modules of dvgen that a plugin may import, beside dvgen itself."""


def budgets(tokenizer: int = 1, prior: int = 1) -> Table:
    """The table `train`: how many steps each stage takes, on four images."""
    return {stage: {"budget": f"steps:{n}", "batch": 4} for stage, n in (("tokenizer", tokenizer), ("prior", prior))}


TABLES: Table = {
    "data": {"use": "shapes", "shapes": 2, "positions": 3},
    "encoder": {"use": "vqvae", "channels": 8},
    "decoder": {"use": "vqvae", "channels": 8},
    "prior": {"use": "gpt", "layers": 1, "dim": 8},
    "train": budgets(),
    "evaluate": {"samples": 4},
}
"""A few images of shapes and a step a stage; the quantizer is the default's, or what a command compares."""


def experiment_file(folder: Path, **tables: Any) -> Path:
    """Write TABLES to tiny.toml in a folder; each of `tables` stands whole for that of its name, and None leaves it out."""
    whole = {name: table for name, table in {**TABLES, **tables}.items() if table is not None}
    path = folder / "tiny.toml"
    path.write_text(tomli_w.dumps(whole), encoding="utf-8")
    return path


def invoke(*arguments: object, plugin: str = "") -> Result:
    """Run `dvgen` in this process, with a plugin that is not installed; raises what the command raises.

    An exit code other than 0 fails the test that asked.
    """
    switches = ["-p", plugin] if plugin else []
    done = CliRunner().invoke(group, [*switches, *map(str, arguments)], standalone_mode=False)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def private_imports(folder: Path, package: str) -> set[str]:
    """The modules of dvgen that files of Python in a folder import though they are not public; its own package may be."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    imported = set(re.findall(r"^\s*(?:from|import) (dvgen[\w.]*)", text, re.MULTILINE))
    assert imported, f"no file below {folder} imports dvgen"
    allowed = rf"dvgen|dvgen\.({'|'.join(PUBLIC)})(\..*)?|{package}(\..*)?"
    return {name for name in imported if not re.fullmatch(allowed, name)}
