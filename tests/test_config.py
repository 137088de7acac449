"""Configs are strict, and every fault of a file is told at once, with its place."""

import json
import math
from collections.abc import Mapping
from typing import Literal

import pytest
from attrs import Factory, field, frozen
from attrs.validators import deep_iterable, ge, gt, in_, min_len
from hypothesis import given
from hypothesis import strategies as st

from dvgen.config import canonical, structure, unstructure
from dvgen.errors import ConfigError


@frozen(kw_only=True)
class Inner:
    width: int = field(default=8, validator=ge(1))
    rate: float = field(default=0.5, validator=gt(0))


@frozen(kw_only=True)
class Rule:
    low: int = 0
    high: int = field(default=10)
    size: int = field(default=4)

    @size.validator
    def _below(self, attribute: object, value: int) -> None:
        if value > self.high:
            raise ValueError(f"size {value} is above high {self.high}")

    def __attrs_post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")


@frozen(kw_only=True)
class Config:
    layers: int = field(default=4, validator=ge(1))
    rate: float = 0.1
    on: bool = True
    name: str = "x"
    widths: tuple[int, ...] = field(default=(1, 2), validator=deep_iterable(ge(1)))
    betas: tuple[float, float] = (0.9, 0.99)
    top: int | None = None
    mode: Literal["a", "b"] = "a"
    inner: Inner = Inner(width=16)
    parts: tuple[Inner, ...] = field(default=(Inner(),), validator=min_len(1))
    maybe: Inner | None = None
    free: Mapping[str, object] = Factory(dict)
    rule: Rule = Rule()


@frozen(kw_only=True)
class Needed:
    first: int
    second: str = field(validator=in_(["a"]))


def faults(table: object, config: type = Config, path: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        structure(table, config, path)
    return str(caught.value).split("\n")


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"layers": 3.7}, "layers: expected int, got 3.7"),
        ({"layers": 3.0}, "layers: expected int, got 3.0"),
        ({"layers": True}, "layers: expected int, got True"),
        ({"layers": "3"}, "layers: expected int, got '3'"),
        ({"layers": None}, "layers: expected int, got None"),
        ({"layers": [3]}, "layers: expected int, got [3]"),
        ({"rate": True}, "rate: expected float, got True"),
        ({"rate": "0.1"}, "rate: expected float, got '0.1'"),
        ({"rate": math.nan}, "rate: expected a finite number, got nan"),
        ({"rate": math.inf}, "rate: expected a finite number, got inf"),
        ({"rate": 10**400}, "rate: int too large to convert to float"),
        ({"on": "false"}, "on: expected bool, got 'false'"),
        ({"on": 1}, "on: expected bool, got 1"),
        ({"name": 12}, "name: expected str, got 12"),
        ({"widths": "12"}, "widths: expected a list, got '12'"),
        ({"widths": {"0": 1}}, "widths: expected a list, got {'0': 1}"),
        ({"widths": [1, "2"]}, "widths: expected int, got '2'"),
        ({"betas": [0.9]}, "betas: expected a list of 2, got 1"),
        ({"betas": [0.9, False]}, "betas: expected float, got False"),
        ({"top": 1.5}, "top: expected int, got 1.5"),
        ({"top": "none"}, "top: expected int, got 'none'"),
        ({"inner": 3}, "inner: expected a table, got 3"),
        ({"inner": [{}]}, "inner: expected a table, got [{}]"),
        ({"inner": {"width": "8"}}, "inner.width: expected int, got '8'"),
        ({"parts": [{}, {"width": 2.5}]}, "parts.1.width: expected int, got 2.5"),
        ({"parts": [{}, 3]}, "parts.1: expected a table, got 3"),
        ({"parts": {}}, "parts: expected a list, got {}"),
        ({"maybe": {"width": "8"}}, "maybe.width: expected int, got '8'"),
        ({"free": 3}, "free: expected a table, got 3"),
    ],
)
def test_a_value_of_another_type_is_a_fault_and_never_converted(table, fault):
    assert faults(table) == [fault]


@pytest.mark.parametrize(
    ("table", "where", "word"),
    [
        ({"layers": 0}, "layers: ", ">= 1"),
        ({"widths": [1, 0]}, "widths: ", ">= 1"),
        ({"inner": {"rate": 0}}, "inner.rate: ", "> 0"),
        ({"parts": [{"width": -1}]}, "parts.0.width: ", ">= 1"),
        ({"parts": []}, "parts: ", ">= 1: 0"),
        ({"mode": "c"}, "mode: ", "literal"),
        ({"rule": {"low": 11}}, "rule: ", "low 11 is above high 10"),
        ({"rule": {"size": 11}}, "rule: ", "size 11 is above high 10"),
    ],
)
def test_a_value_out_of_range_is_a_fault_in_one_line(table, where, word):
    (fault,) = faults(table)
    assert fault.startswith(where)
    assert word in fault
    assert "Attribute(" not in fault


def test_every_fault_is_told_at_once_with_its_path_and_the_known_names():
    table = {
        "layer": 3,
        "rate": "a",
        "inner": {"widht": 1, "rate": -1.0},
        "parts": [{"width": 0}, {"x": 1}],
        "widths": [0],
        "rule": {"low": 11},
    }
    assert sorted(faults(table, path="prior")) == sorted(
        [
            "prior.layer: unknown key (did you mean 'layers'?); known: "
            "betas, free, inner, layers, maybe, mode, name, on, parts, rate, rule, top, widths",
            "prior.rate: expected float, got 'a'",
            "prior.inner.widht: unknown key (did you mean 'width'?); known: rate, width",
            "prior.inner.rate: 'rate' must be > 0: -1.0",
            "prior.parts.0.width: 'width' must be >= 1: 0",
            "prior.parts.1.x: unknown key; known: rate, width",
            "prior.widths: 'widths' must be >= 1: 0",
            "prior.rule: low 11 is above high 10",
        ]
    )


def test_missing_keys_are_all_named():
    assert faults({}, Needed) == ["first: missing", "second: missing"]
    assert faults({}, Needed, "loss.1") == ["loss.1.first: missing", "loss.1.second: missing"]


@pytest.mark.parametrize("table", [3, "x", [1], None])
def test_what_is_no_table_is_told(table):
    assert faults(table) == [f"expected a table, got {table!r}"]
    assert faults(table, path="prior") == [f"prior: expected a table, got {table!r}"]


def test_what_is_left_out_of_a_table_keeps_the_default_of_the_field_that_holds_it():
    assert structure({"inner": {"rate": 0.25}}, Config).inner == Inner(width=16, rate=0.25)
    assert structure({"maybe": {"rate": 0.25}}, Config).maybe == Inner(width=8, rate=0.25)
    assert structure({"parts": [{"rate": 0.25}]}, Config).parts == (Inner(width=8, rate=0.25),)


def test_a_rule_over_several_fields_sees_all_of_them():
    assert structure({"rule": {"size": 20, "high": 30}}, Config).rule == Rule(size=20, high=30)


def test_an_int_is_a_float_where_a_float_is_asked_for():
    built = structure({"rate": 1, "betas": [0, 1]}, Config)
    assert type(built.rate) is float
    assert canonical(built) == canonical(structure({"rate": 1.0, "betas": [0.0, 1.0]}, Config))


inners = st.builds(Inner, width=st.integers(1, 99), rate=st.floats(1e-3, 1e3))
configs = st.builds(
    Config,
    layers=st.integers(1, 99),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    on=st.booleans(),
    name=st.text(max_size=4),
    widths=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    top=st.none() | st.integers(),
    mode=st.sampled_from(["a", "b"]),
    inner=inners,
    parts=st.lists(inners, min_size=1, max_size=3).map(tuple),
    maybe=st.none() | inners,
    free=st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3) | st.lists(st.integers())),
)


@given(configs)
def test_a_config_survives_its_own_table_and_json(config):
    table = unstructure(config)
    assert structure(table, Config) == config
    assert json.loads(json.dumps(table)) == table
    assert structure(json.loads(canonical(config)), Config) == config


@given(configs, configs)
def test_two_configs_have_one_canonical_text_only_when_they_are_equal(first, second):
    assert (canonical(first) == canonical(second)) == (repr(first) == repr(second))


def test_the_canonical_text_does_not_depend_on_the_order_of_keys():
    assert canonical({"b": 1, "a": (1, 2)}) == canonical({"a": [1, 2], "b": 1}) == '{"a":[1,2],"b":1}'
