"""Plugins are found, admitted whole or not at all, and what is wrong with one is told; the rest works on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dvgen.discovery import discover
from dvgen.errors import ConfigError

GOOD = """
from dvgen import Component, hookimpl

@hookimpl
def dvgen_components():
    return [Component("loss", "{name}", "{module}_parts:Loss", "a loss")]
"""
PARTS = """
from dvgen.interfaces.loss import Loss as Interface

class Loss(Interface):
    def forward(self, reconstructed, signals):
        return reconstructed.sum()
"""
RETURNS = "from dvgen import Component, hookimpl\n@hookimpl\ndef dvgen_components({arguments}):\n    return {value}\n"
BROKEN = {
    "import_error": ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    "syntax_error": ("def f(:", "SyntaxError: invalid syntax"),
    "leaves": ("raise SystemExit('bye')", "SystemExit: bye"),
    "another_hook": (  # admitted before the good ones, so that what it leaves behind would show
        "from dvgen import hookimpl\n@hookimpl\ndef dvgen_component():\n    return []",
        "PluginValidationError: unknown hook 'dvgen_component'",
    ),
    "wrong_argument": (RETURNS.format(arguments="colour", value="[]"), "'colour'"),
    "raises": (RETURNS.format(arguments="", value="1 / 0"), "ZeroDivisionError: division by zero"),
    "no_components": (
        RETURNS.format(arguments="", value="['gpt']"),
        "TypeError: dvgen_components must return a list of Component records, not ['gpt']",
    ),
    "nothing": (RETURNS.format(arguments="", value="None"), "TypeError: dvgen_components must return a list"),
    "one_component": (
        RETURNS.format(arguments="", value="Component('loss', 'lonely', 'm:C', 's')"),
        "TypeError: dvgen_components must return a list",
    ),
    "unknown_kind": (
        RETURNS.format(arguments="", value="[Component('optimizer', 'sgd', 'm:C', 's')]"),
        "ValueError: 'kind' must be in ('encoder',",
    ),
    "half": (
        RETURNS.format(arguments="", value="[Component('loss', 'half', 'm:C', 's'), Component('loss', 'BAD', 'm:C', 's')]"),
        "ValueError: 'name' must match regex",
    ),
}
REPORT = """
import json, sys
from dvgen.discovery import discover
registry = discover(sys.argv[1:]).registry
print(json.dumps({
    "supplied": [[s.component.kind, s.component.name, s.plugin, s.distribution] for s in registry.supplied],
    "failures": [[f.plugin, f.distribution, f.reason] for f in registry.failures],
    "torch": "torch" in sys.modules,
}))
"""


def distribution(folder: Path, name: str, modules: dict[str, str], entries: list[str]) -> None:
    """Write an installed distribution as pip leaves it: its modules, and NAME-1.0.dist-info."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dvgen]\n" + "".join(f"{entry}\n" for entry in entries))
    (info / "RECORD").write_text("".join(f"{module}.py,,\n" for module in modules))


def good(folder: Path, name: str, component: str, entry: str) -> None:
    module = name.replace("-", "_")
    modules = {module: GOOD.format(name=component, module=module), f"{module}_parts": PARTS}
    distribution(folder, name, modules, [f"{entry} = {module}"])


def python(folder: Path, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code where `folder` is on the path, as site-packages would be."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def found(folder: Path, *switches: str, **environment: str) -> Any:
    """What a user would see of the plugins."""
    done = python(folder, REPORT, *switches, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def mine(rows: list[list[str]]) -> list[list[str]]:
    """The rows that are not of the repository's own distribution."""
    return [row for row in rows if not row[-1].startswith("dvgen ") and not row[1].startswith("dvgen ")]


@pytest.fixture
def broken(tmp_path):
    """One good distribution among one for every way to be broken."""
    good(tmp_path, "dvgen-good", "good", "good")
    for name, (text, _) in BROKEN.items():
        distribution(tmp_path, f"broken-{name}".replace("_", "-"), {f"broken_{name}": text}, [f"{name} = broken_{name}"])
    return tmp_path


def test_a_plugin_of_another_distribution_is_admitted_without_torch(tmp_path):
    good(tmp_path, "dvgen-good", "good", "good")
    report = found(tmp_path)
    assert mine(report["supplied"]) == [["loss", "good", "good", "dvgen-good 1.0"]]
    assert report["failures"] == []
    assert not report["torch"]


def test_a_plugin_that_fails_is_recorded_with_its_reason_and_stops_no_other(broken):
    report = found(broken)
    assert mine(report["supplied"]) == [["loss", "good", "good", "dvgen-good 1.0"]]
    assert len(report["supplied"]) > 10, "the repository's own plugins are there too"
    failures = {plugin: (source, reason) for plugin, source, reason in report["failures"]}
    assert set(failures) == set(BROKEN)
    for name, (_, expected) in BROKEN.items():
        source, reason = failures[name]
        assert source == f"broken-{name} 1.0".replace("_", "-")
        assert expected in reason
        assert "\n" not in reason
        assert "Attribute(" not in reason


def test_a_failed_plugin_is_mentioned_when_a_name_is_not_found(broken):
    code = "from dvgen.discovery import discover\ndiscover().registry.load('loss', 'lonely')"
    done = python(broken, code)
    assert "no loss named 'lonely'" in done.stderr
    assert "plugin 'import_error' (broken-import-error 1.0) failed to load: ModuleNotFoundError" in done.stderr


def test_two_distributions_with_one_component_name_clash_only_when_it_is_used(tmp_path):
    good(tmp_path, "dvgen-first", "same", "first")
    good(tmp_path, "dvgen-second", "same", "second")
    good(tmp_path, "dvgen-third", "other", "third")
    assert len(mine(found(tmp_path)["supplied"])) == 3
    code = """
from dvgen.discovery import discover
from dvgen.errors import PluginError
registry = discover().registry
print(registry.load("loss", "other").__module__)
print(discover(["no:second"]).registry.load("loss", "same").__module__)
try:
    registry.load("loss", "same")
except PluginError as error:
    print(error)
"""
    other, same, clash = python(tmp_path, code).stdout.splitlines()
    assert (other, same) == ("dvgen_third_parts", "dvgen_first_parts")
    assert "loss 'same' is supplied twice" in clash
    assert "plugin 'first' of dvgen-first 1.0 and plugin 'second' of dvgen-second 1.0" in clash


def test_two_entry_points_of_one_name_are_both_admitted(tmp_path):
    good(tmp_path, "a-first", "one", "same")
    good(tmp_path, "b-second", "two", "same")
    good(tmp_path, "dvgen-gpt-of-mine", "three", "gpt")
    plugins = {name: plugin for _, name, plugin, _ in found(tmp_path)["supplied"]}
    assert plugins["one"] == "same"
    assert plugins["two"] == "same@b-second"
    assert plugins["gpt"] == "gpt"
    assert plugins["three"] == "gpt@dvgen-gpt-of-mine"


def test_a_plugin_or_a_distribution_is_blocked_by_its_name(broken):
    every = {name: name for name in BROKEN}
    by_plugin = found(broken, "no:good", *(f"no:{name}" for name in every))
    by_distribution = found(broken, "no:dvgen-good", *(f"no:broken-{name}".replace("_", "-") for name in every))
    assert mine(by_plugin["supplied"]) == mine(by_distribution["supplied"]) == []
    assert by_plugin["failures"] == by_distribution["failures"] == []
    assert found(broken, "no:dvgen")["supplied"] == [["loss", "good", "good", "dvgen-good 1.0"]]


def test_blocking_a_name_that_nothing_has_is_an_error_with_the_nearest():
    with pytest.raises(ConfigError, match=r"^-p no:gtp: no plugin or distribution of that name \(did you mean 'gpt'\?\)$"):
        discover(["no:gtp"])


def test_a_module_that_is_not_installed_is_admitted_on_request(tmp_path):
    (tmp_path / "my_idea.py").write_text(GOOD.format(name="idea", module="my_idea"))
    assert mine(found(tmp_path)["supplied"]) == []
    assert mine(found(tmp_path, "my_idea")["supplied"]) == [["loss", "idea", "my_idea", "not installed"]]
    failures = found(tmp_path, "my_ideal")["failures"]
    assert failures == [["my_ideal", "not installed", "ModuleNotFoundError: No module named 'my_ideal'"]]


def test_a_module_asked_for_twice_or_installed_already_is_admitted_once(tmp_path):
    (tmp_path / "my_idea.py").write_text(GOOD.format(name="idea", module="my_idea"))
    report = found(tmp_path, "my_idea", "my_idea", "dvgen_gpt")
    assert [name for _, name, _, _ in report["supplied"]].count("idea") == 1
    assert [name for _, name, _, _ in report["supplied"]].count("gpt") == 1
    assert report["failures"] == []


def test_a_module_with_the_name_of_an_installed_plugin_does_not_displace_it(tmp_path):
    (tmp_path / "gpt.py").write_text(GOOD.format(name="mine", module="gpt"))
    plugins = {name: plugin for _, name, plugin, _ in found(tmp_path, "gpt")["supplied"]}
    assert plugins["gpt"] == "gpt"
    assert plugins["mine"] == "gpt@-p"


def test_installed_plugins_can_be_left_out(tmp_path):
    (tmp_path / "my_idea.py").write_text(GOOD.format(name="idea", module="my_idea"))
    assert found(tmp_path, DVGEN_PLUGIN_AUTOLOAD="0")["supplied"] == []
    names = [name for _, name, _, _ in found(tmp_path, "my_idea", DVGEN_PLUGIN_AUTOLOAD="0")["supplied"]]
    assert names == ["idea"]


def test_a_damaged_distribution_without_a_name_is_admitted_as_unknown(tmp_path):
    good(tmp_path, "dvgen-good", "good", "good")
    (tmp_path / "dvgen_good-1.0.dist-info" / "METADATA").write_text("")
    report = found(tmp_path)
    assert next(row for row in report["supplied"] if row[1] == "good")[3].startswith("unknown")


@pytest.mark.slow
def test_a_distribution_written_elsewhere_installs_with_pip_and_is_found(tmp_path):
    """The third-party path in full: a pyproject of its own, built and installed by pip, in another environment."""
    source = tmp_path / "dvgen-elsewhere"
    source.mkdir()
    (source / "dvgen_elsewhere.py").write_text(GOOD.format(name="elsewhere", module="dvgen_elsewhere"))
    (source / "dvgen_elsewhere_parts.py").write_text(PARTS)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "dvgen-elsewhere"\nversion = "2.5"\ndependencies = ["dvgen"]\n'
        '[project.entry-points.dvgen]\nelsewhere = "dvgen_elsewhere"\n'
        '[tool.hatch.build.targets.wheel]\ninclude = ["dvgen_elsewhere*.py"]\n'
    )
    target = tmp_path / "site"
    install = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True, text=True)
    assert mine(found(target)["supplied"]) == [["loss", "elsewhere", "elsewhere", "dvgen-elsewhere 2.5"]]
    load = "from dvgen.discovery import discover; print(discover().registry.load('loss', 'elsewhere').__name__)"
    assert python(target, load).stdout == "Loss\n"
