"""What is shipped is what is here: folders of plugins/, entry points, import rules and the wheel agree."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists())
PUBLIC = {"errors", "interfaces", "blocks", "contracts"}
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel that `pip install .` would build."""
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return zipfile.ZipFile(built)


def sources(folder: Path) -> set[str]:
    return {
        path.relative_to(folder.parent).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_every_folder_of_plugins_is_a_plugin_and_named_so():
    assert PLUGINS
    assert [path.name for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name not in PLUGINS] == []
    assert all(re.fullmatch(r"dvgen_[a-z0-9]+", name) for name in PLUGINS)


def test_every_plugin_has_its_entry_point_and_no_entry_point_is_left_over():
    assert PROJECT["project"]["entry-points"]["dvgen"] == {name.removeprefix("dvgen_"): name for name in PLUGINS}


def test_the_entry_points_that_are_installed_are_those_that_are_written():
    installed = {e.name: e.value for e in distribution("dvgen").entry_points if e.group == "dvgen"}
    assert installed == PROJECT["project"]["entry-points"]["dvgen"], "run `pip install -e .` again: entry points changed"


def test_the_import_rules_know_every_plugin():
    assert PROJECT["tool"]["importlinter"]["root_packages"] == ["dvgen", *PLUGINS]
    forbidden = next(contract for contract in CONTRACTS if contract["name"] == "the core never imports a plugin")
    independent = next(contract for contract in CONTRACTS if contract["type"] == "independence")
    assert forbidden["forbidden_modules"] == PLUGINS
    assert independent["modules"] == PLUGINS


def test_the_import_rules_protect_every_module_that_is_not_public():
    modules = {path.stem for path in (ROOT / "dvgen").glob("*.py")} - {"__init__"}
    modules |= {path.parent.name for path in (ROOT / "dvgen").glob("*/__init__.py")}
    protected = next(contract for contract in CONTRACTS if contract["type"] == "protected")
    assert set(protected["protected_modules"]) == {f"dvgen.{name}" for name in modules - PUBLIC}


def test_the_wheel_holds_the_core_every_plugin_and_nothing_else(wheel):
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = sources(ROOT / "dvgen")
    for plugin in PLUGINS:
        expected |= sources(ROOT / "plugins" / plugin)
    assert shipped == expected


def test_the_wheel_says_that_it_is_typed_and_under_which_license(wheel):
    names = wheel.namelist()
    assert {f"{package}/py.typed" for package in ["dvgen", *PLUGINS]} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_declares_the_plugins_and_the_command(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    text = wheel.read(name).decode()
    assert "dvgen = dvgen.cli:main" in text
    assert all(f"{plugin.removeprefix('dvgen_')} = {plugin}" in text for plugin in PLUGINS)


def test_what_ci_installs_is_pinned_and_holds_no_address():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pinned = {}
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.+!-]+", line), line
        requirement = Requirement(line)
        pinned[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    assert len(pinned) == len(lines)
    for text in PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


def test_the_version_stands_once():
    import dvgen

    assert dvgen.__version__ == PROJECT["project"]["version"] == distribution("dvgen").version


@pytest.mark.slow
def test_the_wheel_works_where_the_sources_are_not(wheel, tmp_path):
    """Installed from the wheel alone, in a folder of its own, every plugin is admitted and every component imports."""
    target = tmp_path / "site"
    install = ["install", "--no-deps", "--no-index", "--target", str(target), str(wheel.filename)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True, text=True)
    code = (
        "import sys, dvgen; from dvgen.discovery import discover; found = discover().registry;"
        "assert dvgen.__file__.startswith(sys.argv[1]), dvgen.__file__;"
        "assert not found.failures, found.failures;"
        "print(len([found.load(s.component.kind, s.component.name) for s in found.supplied if s.component.kind != 'recipe']))"
    )
    environment = os.environ | {"PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
