"""Parts: a component names components it is composed of, they are checked and written out like boxes, and it can make them."""

import subprocess
import sys
import tomllib
import types

import attrs
import pytest
from attrs import Factory, field, frozen
from attrs.validators import ge
from doc_pages import marked

import dvgen
from dvgen import Component, Part, part
from dvgen.assembly import build, check_components, checked_experiment, component_config, resolved
from dvgen.config import override, structure, unstructure
from dvgen.errors import ConfigError, PluginError
from dvgen.experiment import Choice, Experiment, digest, experiment_from, table_of
from dvgen.interfaces.quantizer import Quantizer
from dvgen.parts import overlaid, parts, stacked
from dvgen.registry import Registry, Supplied


@frozen(kw_only=True)
class EmaConfig:
    num_codes: int = field(default=256, validator=ge(2))
    dim: int = field(default=64, validator=ge(1))
    decay: float = 0.99


@frozen(kw_only=True)
class VqConfig:
    num_codes: int = 512


@frozen(kw_only=True)
class ProductConfig:
    """Its part must be named."""

    groups: int = 2
    inner: Part = part("quantizer")


@frozen(kw_only=True)
class ResidualConfig:
    """Its part has a default that is not the part's own: 16 codes."""

    levels: int = field(default=4, validator=ge(1))
    inner: Part = part("quantizer", use="ema", num_codes=16)


@frozen(kw_only=True)
class DeepConfig:
    """A default part that itself changes its part."""

    inner: Part = part("quantizer", use="product", inner=Part(use="ema", fields={"num_codes": 8, "dim": 3}))


@frozen(kw_only=True)
class EndlessConfig:
    inner: Part = part("quantizer", use="endless")


@frozen(kw_only=True)
class StrayConfig:
    inner: Part = part("quantizer", use="bare")


CONFIGS = {
    "ema": EmaConfig,
    "vq": VqConfig,
    "product": ProductConfig,
    "residual": ResidualConfig,
    "deep": DeepConfig,
    "endless": EndlessConfig,
    "stray": StrayConfig,
    "bare": None,
}


def quantizer(config: type | None) -> type:
    """A concrete quantizer that keeps what it was made with."""

    def initialise(self, config, **given):
        super(cls, self).__init__()
        self.config, self.given = config, given

    body = {name: lambda self, *arguments, **named: None for name in Quantizer.__abstractmethods__}
    cls = type("Toy", (Quantizer,), body | {"__init__": initialise} | ({"Config": config} if config else {}))
    return cls


@pytest.fixture
def toys(registry, monkeypatch) -> Registry:
    """The installed components, with these quantizers instead of theirs."""
    module = types.ModuleType("toy_parts")
    for name, config in CONFIGS.items():
        setattr(module, name, quantizer(config))
    monkeypatch.setitem(sys.modules, "toy_parts", module)
    others = [s for s in registry.supplied if s.component.kind != "quantizer"]
    own = [Supplied(Component("quantizer", name, f"toy_parts:{name}", "s"), "toys", "d 1") for name in CONFIGS]
    return Registry(others + own)


def config(toys: Registry, use: str, **fields: object):
    return component_config(toys, "quantizer", Choice(use=use, fields=fields))


def written(toys: Registry, table: object) -> dict:
    """The first quantizer of an experiment, every default written out."""
    return table_of(resolved(toys, checked_experiment(toys, {"quantizer": table})))["quantizer"][0]


def faults(toys: Registry, table: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        checked_experiment(toys, {"quantizer": table})
    return str(caught.value).splitlines()


EMA = {"use": "ema", "num_codes": 256, "dim": 64, "decay": 0.99}
RESIDUAL = {"use": "residual", "levels": 4, "inner": EMA | {"num_codes": 16}}


def test_a_config_tells_its_parts_with_their_kinds():
    assert parts(ResidualConfig) == {"inner": "quantizer"}
    assert parts(EmaConfig) == {}
    assert {"Part", "part"} <= set(dvgen.__all__)


def test_the_declared_part_is_the_default_and_one_without_a_name_has_none():
    assert ResidualConfig().inner == Part(use="ema", fields={"num_codes": 16})
    with pytest.raises(TypeError, match="inner"):
        ProductConfig()
    with pytest.raises(PluginError, match=r"part\('quantizer'\): got dim, num_codes without use="):
        part("quantizer", num_codes=3, dim=2)


def test_every_field_of_a_part_is_written_out(toys):
    full = config(toys, "residual", levels=2)
    assert full == ResidualConfig(levels=2, inner=Part(use="ema", fields={"num_codes": 16, "dim": 64, "decay": 0.99}))
    assert unstructure(full) == {"levels": 2, "inner": EMA | {"num_codes": 16}}
    assert structure(unstructure(full), ResidualConfig) == full


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ({}, EMA | {"num_codes": 16}),
        ({"dim": 8}, EMA | {"num_codes": 16, "dim": 8}),
        ({"use": "ema", "dim": 8}, EMA | {"num_codes": 16, "dim": 8}),
        ({"num_codes": 32}, EMA | {"num_codes": 32}),
        ({"use": "vq"}, {"use": "vq", "num_codes": 512}),
        ({"use": "product", "inner": {"use": "ema"}}, {"use": "product", "groups": 2, "inner": EMA}),
    ],
)
def test_a_table_changes_the_declared_part_and_another_name_starts_from_its_own_defaults(toys, inner, expected):
    assert written(toys, {"use": "residual", "inner": inner}) == RESIDUAL | {"inner": expected}


def test_a_config_read_without_the_registry_keeps_the_declared_fields_too():
    assert structure({"inner": {"dim": 8}}, ResidualConfig).inner == Part(use="ema", fields={"num_codes": 16, "dim": 8})
    assert structure({"inner": {"use": "vq"}}, ResidualConfig).inner == Part(use="vq")


def test_the_part_of_a_declared_part_is_changed_field_by_field(toys):
    assert written(toys, {"use": "deep"})["inner"] == {
        "use": "product",
        "groups": 2,
        "inner": EMA | {"num_codes": 8, "dim": 3},
    }
    changed = written(toys, {"use": "deep", "inner": {"inner": {"dim": 5}}})
    assert changed["inner"]["inner"] == EMA | {"num_codes": 8, "dim": 5}
    assert written(toys, {"use": "deep", "inner": {"inner": {"use": "vq"}}})["inner"]["inner"] == {
        "use": "vq",
        "num_codes": 512,
    }


def test_what_is_written_out_reads_back_as_the_same_experiment_with_the_same_digest(toys):
    """Residual of product of ema, through TOML: the names alone, the whole, and the whole resolved again are one experiment."""
    text = '[quantizer]\nuse = "residual"\n[quantizer.inner]\nuse = "product"\n[quantizer.inner.inner]\nuse = "ema"\ndim = 8\n'
    full = resolved(toys, checked_experiment(toys, tomllib.loads(text)))
    product = {"use": "product", "groups": 2, "inner": EMA | {"dim": 8}}
    assert table_of(full)["quantizer"] == [{"use": "residual", "levels": 4, "inner": product}]
    again = experiment_from(table_of(full))
    assert again == full == resolved(toys, again)
    assert digest(again) == digest(full)
    other = resolved(toys, checked_experiment(toys, tomllib.loads(text.replace("dim = 8", "dim = 9"))))
    assert digest(other) != digest(full)


@pytest.mark.parametrize("known", [False, True])
def test_set_changes_a_field_of_a_part_whether_or_not_its_table_is_there(toys, known):
    table = {"quantizer": [RESIDUAL if known else {"use": "residual"}]}
    table = table_of(experiment_from(table))
    override(table, "quantizer.inner.num_codes=8")
    assert written(toys, table["quantizer"]) == RESIDUAL | {"inner": EMA | {"num_codes": 8}}


def test_set_names_another_part_and_fields_that_it_lacks_are_told_never_dropped(toys):
    """As in a box: what was written for the old part stays, and is an unknown key where the new one has no such field."""
    for inner, codes in ((None, 512), ({"use": "ema", "num_codes": 4}, 4)):
        table = {"quantizer": {"use": "residual"} | ({"inner": inner} if inner else {})}
        override(table, "quantizer.inner.use=vq")
        assert written(toys, table["quantizer"])["inner"] == {"use": "vq", "num_codes": codes}
    table = {"quantizer": {"use": "residual", "inner": {"use": "ema", "dim": 4}}}
    override(table, "quantizer.inner.use=vq")
    assert faults(toys, table["quantizer"]) == ["quantizer.inner.dim: unknown key; known: num_codes"]
    override(table, 'quantizer.inner={use = "vq"}')
    assert written(toys, table["quantizer"])["inner"] == {"use": "vq", "num_codes": 512}


def test_every_fault_of_every_part_is_told_at_once_with_its_path(toys):
    table = [
        {"use": "residual", "levels": 0, "inner": {"use": "product", "gruops": 1, "inner": {"num_codes": 3.7}}},
        {"use": "residual", "inner": {"use": "product", "groups": "2", "inner": {"use": "ema", "num_codes": 3.7, "dim": 0}}},
        {"use": "residual", "inner": {"use": "emma"}},
        {"use": "product", "groups": True},
        {"use": "residual", "inner": {"use": 3}},
        {"use": "residual", "inner": "ema"},
        {"use": "resiudal", "inner": {"use": "emma"}},
    ]
    known = ", ".join(sorted(CONFIGS))
    assert set(faults(toys, table)) == {
        "quantizer.0.levels: 'levels' must be >= 1: 0",
        "quantizer.0.inner.gruops: unknown key (did you mean 'groups'?); known: groups, inner",
        "quantizer.0.inner.inner.use: missing",
        "quantizer.1.inner.groups: expected int, got '2'",
        "quantizer.1.inner.inner.num_codes: expected int, got 3.7",
        "quantizer.1.inner.inner.dim: 'dim' must be >= 1: 0",
        f"quantizer.2.inner.use: no quantizer named 'emma' (did you mean 'ema'?); known: {known}",
        "quantizer.3.groups: expected int, got True",
        "quantizer.3.inner: missing",
        "quantizer.4.inner.use: expected str, got 3",
        "quantizer.5.inner: expected a table, got 'ema'",
        f"no quantizer named 'resiudal' (did you mean 'residual'?); known: {known}",
    }


def test_faults_of_parts_are_told_together_with_those_of_the_rest_of_the_file(toys):
    with pytest.raises(ConfigError) as caught:
        checked_experiment(toys, {"sede": 1, "quantizer": {"use": "residual", "inner": {"num_codes": 3.7}}})
    told = str(caught.value).splitlines()
    assert told[0].startswith("sede: unknown key")
    assert told[1:] == ["quantizer.inner.num_codes: expected int, got 3.7"]


def test_an_experiment_with_parts_passes_the_check_before_any_work(toys):
    check_components(toys, attrs.evolve(Experiment(), quantizer=(Choice(use="deep"),)))


def test_a_plugin_whose_part_cannot_be_is_told_so(toys):
    with pytest.raises(PluginError, match=r"the default part of quantizer 'endless' leads back to itself"):
        config(toys, "endless")
    with pytest.raises(PluginError, match=r"quantizer 'bare': .* has no nested attrs class Config"):
        config(toys, "stray")


def test_a_composed_component_receives_a_factory_that_makes_new_instances(toys):
    built = build(toys, "quantizer", Choice(use="residual", fields={"inner": {"dim": 8}}), extra=1)
    inner = built.given.pop("inner")
    assert built.given == {"extra": 1}
    first, second = inner(), inner()
    assert first is not second
    assert first.config == second.config == EmaConfig(num_codes=16, dim=8)
    assert first.given == {}


def test_a_factory_changes_fields_of_the_part_and_checks_them(toys):
    inner = build(toys, "quantizer", Choice(use="residual")).given["inner"]
    assert inner(num_codes=7).config == EmaConfig(num_codes=7)
    assert inner().config == EmaConfig(num_codes=16)
    with pytest.raises(ConfigError) as caught:
        inner(num_codes=3.7, dmi=2)
    assert set(str(caught.value).splitlines()) == {
        "quantizer.inner.num_codes: expected int, got 3.7",
        "quantizer.inner.dmi: unknown key (did you mean 'dim'?); known: decay, dim, num_codes",
    }


def test_a_part_receives_factories_of_its_own_parts(toys):
    product = build(toys, "quantizer", Choice(use="deep")).given["inner"]
    ema = product(groups=3).given["inner"]
    assert product(groups=3).config.groups == 3
    assert ema(decay=0.5).config == EmaConfig(num_codes=8, dim=3, decay=0.5)
    assert product(inner={"dim": 9}).given["inner"]().config == EmaConfig(num_codes=8, dim=9)
    assert product(inner=Part(use="vq")).given["inner"]().config == VqConfig()


def test_a_part_that_a_config_holds_in_a_free_table_is_plain_too():
    @frozen(kw_only=True)
    class Holder:
        held: dict = Factory(dict)

    held = Holder(held={"part": Part(use="deep", fields={"inner": Part(use="ema"), "sizes": (1, 2)})})
    assert unstructure(held) == {"held": {"part": {"use": "deep", "inner": {"use": "ema"}, "sizes": [1, 2]}}}


@pytest.mark.parametrize(
    ("tables", "use", "layers"),
    [
        ([], None, []),
        ([{"a": 1}], None, [{"a": 1}]),
        ([{"a": 1}, {"use": "x", "b": 1}, {"use": "x", "c": 1}], "x", [{"a": 1}, {"b": 1}, {"c": 1}]),
        ([{"use": "x"}, {"b": 1}, {"use": "y", "c": 1}, {"use": "x", "d": 1}], "x", [{}, {"b": 1}]),
        ([3, {"use": "x"}], None, []),
        ([{"use": None}, {"use": "x"}], "x", [{}, {}]),
    ],
)
def test_tables_of_one_part_count_from_the_first_to_where_another_component_is_named(tables, use, layers):
    assert stacked(tables) == (use, layers)


def test_of_several_tables_the_first_counts():
    assert overlaid([{"a": 1}, {"a": 2, "b": 2}]) == {"a": 1, "b": 2}


def test_the_composed_component_of_the_documentation_is_one(toys, monkeypatch):
    """Its file fills its part, and it makes one instance of it a level."""
    shown = types.ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", shown)
    exec(marked("docs/experiments.md", "example: a composed component"), vars(shown))
    body = {name: lambda self, *arguments: None for name in Quantizer.__abstractmethods__}
    sys.modules["toy_parts"].residual = type("Shown", (shown.Residual,), body)
    table = tomllib.loads(marked("docs/experiments.md", "example: a part"))
    experiment = resolved(toys, checked_experiment(toys, table))
    assert table_of(experiment)["quantizer"] == [{"use": "residual", "levels": 4, "inner": EMA}]
    built = build(toys, "quantizer", experiment.quantizer[0])
    assert [stage.config for stage in built.stages] == [EmaConfig()] * 4
    assert len(set(built.stages)) == 4


@pytest.mark.parametrize("module", ["parts", "assembly"])
def test_declaring_and_checking_parts_imports_no_torch(module):
    code = f"import sys, dvgen.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
