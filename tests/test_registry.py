"""Components by kind and name: looked up, imported on first use, checked against their interface."""

import sys

import pytest

from dvgen.errors import ConfigError, PluginError
from dvgen.registry import INTERFACES, KINDS, Component, Failure, Registry, Supplied, closest, describe, resolve

MODULE = """
from attrs import frozen
from dvgen.interfaces.loss import Loss

class Whole(Loss):
    @frozen
    class Config:
        pass
    def __init__(self, config):
        super().__init__()
    def forward(self, reconstructed, signals):
        return reconstructed.sum()

class Half(Loss):
    pass

class Stranger:
    pass

function = len
"""


def supplied(kind: str, name: str, target: str, plugin: str = "mine", distribution: str = "dvgen-mine 1.0") -> Supplied:
    return Supplied(Component(kind, name, target, "a summary"), plugin, distribution)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of an importable module with whole and faulty components."""
    (tmp_path / "parts_of_registry_test.py").write_text(MODULE)
    (tmp_path / "leaves_registry_test.py").write_text("raise SystemExit(3)")
    (tmp_path / "lines_registry_test.py").write_text("raise RuntimeError('one\\n  two')")
    monkeypatch.syspath_prepend(tmp_path)
    yield "parts_of_registry_test"
    for name in [name for name in sys.modules if name.endswith("registry_test") and name != __name__]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("kind", "name", "target", "summary"),
    [
        ("optimizer", "mine", "m:C", "s"),
        ("loss", "Mine", "m:C", "s"),
        ("loss", "9th", "m:C", "s"),
        ("loss", "mine ", "m:C", "s"),
        ("loss", "", "m:C", "s"),
        ("loss", "mine", "m.C", "s"),
        ("loss", "mine", "m:C()", "s"),
        ("loss", "mine", "m:", "s"),
        ("loss", "mine", "m:C", ""),
        ("loss", "mine", "m:C", "two\nlines"),
    ],
)
def test_a_component_that_cannot_be_listed_or_typed_is_refused(kind, name, target, summary):
    with pytest.raises(ValueError, match=r"kind|name|target|summary"):
        Component(kind, name, target, summary)


def test_a_recipe_is_a_file_of_a_package():
    assert Component("recipe", "vqgan-f16", "dvgen_vqgan:recipes/vqgan-f16.toml", "s").kind == "recipe"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if INTERFACES[kind]])
def test_every_kind_has_an_interface_that_cannot_be_used_itself(kind):
    assert resolve(INTERFACES[kind]).__abstractmethods__


def test_names_are_sorted_and_each_stands_once():
    registry = Registry([supplied("loss", "b", "m:B"), supplied("loss", "a", "m:A"), supplied("loss", "b", "m:C")])
    assert registry.names("loss") == ["a", "b"]
    assert registry.names("prior") == []


def test_a_component_is_imported_when_it_is_loaded_and_not_before(module):
    registry = Registry([supplied("loss", "whole", f"{module}:Whole")])
    assert registry.find("loss", "whole").plugin == "mine"
    assert registry.names("loss") == ["whole"]
    assert module not in sys.modules
    assert registry.load("loss", "whole").__name__ == "Whole"


def test_an_unknown_name_tells_the_known_ones_the_nearest_one_and_the_plugins_that_failed():
    registry = Registry(
        [supplied("prior", "gpt", "m:G"), supplied("prior", "pixelsnail", "m:P"), supplied("loss", "pixelsnai", "m:L")],
        [Failure("other", "dvgen-other 2.0", "ImportError: no flash")],
    )
    with pytest.raises(ConfigError) as caught:
        registry.load("prior", "pixelsnai")
    assert str(caught.value) == (
        "no prior named 'pixelsnai' (did you mean 'pixelsnail'?); known: gpt, pixelsnail. "
        "plugin 'other' (dvgen-other 2.0) failed to load: ImportError: no flash"
    )
    with pytest.raises(ConfigError, match=r"^no encoder named 'x'; known: none\. plugin 'other'"):
        registry.find("encoder", "x")


def test_a_name_supplied_twice_is_an_error_only_when_it_is_used(module):
    registry = Registry(
        [
            supplied("loss", "whole", f"{module}:Whole"),
            supplied("prior", "gpt", "m:G", "gpt", "dvgen 0.1.0"),
            supplied("prior", "gpt", "m:H", "mine", "dvgen-mine 1.0"),
        ]
    )
    registry.load("loss", "whole")
    with pytest.raises(PluginError) as caught:
        registry.load("prior", "gpt")
    for part in ("prior 'gpt'", "'gpt' of dvgen 0.1.0", "'mine' of dvgen-mine 1.0", "-p no:PLUGIN"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere_registry_test:C", "ModuleNotFoundError: No module named 'nowhere_registry_test'"),
        ("{}:Missing", "AttributeError"),
        ("leaves_registry_test:C", "SystemExit: 3"),
        ("lines_registry_test:C", "RuntimeError: one two"),
        ("{}:Stranger", "is not a subclass of dvgen.interfaces.loss:Loss"),
        ("{}:function", "is not a subclass of dvgen.interfaces.loss:Loss"),
        ("{}:Half", "does not define forward, which dvgen.interfaces.loss:Loss asks for"),
    ],
)
def test_a_target_that_is_no_component_of_its_kind_names_plugin_and_distribution(module, target, reason):
    registry = Registry([supplied("loss", "bad", target.format(module))])
    with pytest.raises(PluginError) as caught:
        registry.load("loss", "bad")
    text = str(caught.value)
    assert reason in text
    assert "loss 'bad' of plugin 'mine' (dvgen-mine 1.0)" in text
    assert "\n" not in text


def test_closest_names_one_near_name_or_nothing():
    assert closest("pixelsnial", ["gpt", "pixelsnail"]) == " (did you mean 'pixelsnail'?)"
    assert closest("x", ["gpt"]) == ""
    assert closest("x", []) == ""


def test_an_error_is_described_in_one_line_without_the_internals_of_attrs():
    with pytest.raises(ValueError, match="kind") as caught:
        Component("optimizer", "mine", "m:C", "s")
    assert describe(caught.value).startswith("ValueError: 'kind' must be in (")
    assert "Attribute(" not in describe(caught.value)
    assert describe(OSError(2, "No such file", "x")) == "FileNotFoundError: [Errno 2] No such file: 'x'"
    assert describe(KeyError("k")) == "KeyError: 'k'"
    assert describe(RuntimeError()) == "RuntimeError:"


def test_every_component_of_this_distribution_loads(registry):
    assert {s.component.kind for s in registry.supplied} <= set(KINDS)
    for s in registry.supplied:
        if s.component.kind != "recipe" and s.distribution.startswith("dvgen "):
            assert registry.load(s.component.kind, s.component.name).Config()
