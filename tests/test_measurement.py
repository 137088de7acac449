"""A value carries its protocol, and values of different protocols are never ranked."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvgen.errors import ConfigError, DataError, IncomparableError, NonFiniteError
from dvgen.evaluation.measurement import Key, Measurement, best, difference

NLL = Key("nats/code", "nats/code", {"codes": "3f9a", "split": "test"})
finite = st.floats(allow_nan=False, allow_infinity=False)


def measured(value: float, key: Key = NLL) -> Measurement:
    return Measurement(value, None, 10, key)


def test_the_order_in_which_a_protocol_is_written_does_not_matter() -> None:
    assert Key("nats/code", "nats/code", (("split", "test"), ("codes", "3f9a"))) == NLL
    assert NLL.protocol == (("codes", "3f9a"), ("split", "test"))


def test_a_label_is_the_metric_and_its_unit_once() -> None:
    assert NLL.label == "nats/code"
    assert Key("FD[rand:v1]", "", {}).label == "FD[rand:v1]"
    assert Key("PSNR", "dB", {}).label == "PSNR dB"


@settings(max_examples=25, deadline=None)
@given(value=finite, ends=st.none() | st.tuples(finite, finite), n=st.integers(1, 10**9), higher=st.booleans())
def test_what_is_written_to_json_is_read_back_equal(
    value: float, ends: tuple[float, float] | None, n: int, higher: bool
) -> None:
    measurement = Measurement(value, ends, n, Key("PSNR", "dB", {"data": "ab", "split": "test"}, higher))
    assert Measurement.from_dict(json.loads(json.dumps(measurement.to_dict(), allow_nan=False))) == measurement


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(NonFiniteError, match="nats/code"):
        measured(bad)
    with pytest.raises(NonFiniteError, match="nats/code"):
        Measurement(1.0, (bad, 2.0), 10, NLL)


@pytest.mark.parametrize(
    "damage", [{"value": "high"}, {"n": 2.5}, {"n": 0}, {"key": {"metric": "x"}}, {"interval": [1.0]}, {"key": 3}]
)
def test_a_damaged_record_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(DataError, match="not a measurement"):
        Measurement.from_dict(measured(1.0).to_dict() | damage)


def test_the_best_is_the_lowest_or_the_highest_as_its_key_says() -> None:
    values = [2.0, 1.0, 3.0, 1.0, 3.0]
    assert best([measured(value) for value in values]) == 1
    assert best([measured(value, Key("PSNR", "dB", {}, higher_is_better=True)) for value in values]) == 2
    with pytest.raises(ConfigError, match="at least one"):
        best([])


def test_a_difference_keeps_its_sign() -> None:
    assert difference(measured(1.5), measured(2.0)) == -0.5


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Key("nats/code", "nats/code", {"codes": "3f9a", "split": "train"}), "protocol split: test against train"),
        (Key("nats/code", "nats/code", {"codes": "3f9a"}), r"protocol split: test against \(absent\)"),
        (Key("bits/code", "bits/code", dict(NLL.protocol)), "metric: nats/code against bits/code"),
        (Key("nats/code", "nats/code", NLL.protocol, higher_is_better=True), "higher_is_better"),
    ],
)
def test_different_protocols_are_incomparable_and_the_message_says_in_what(other: Key, named: str) -> None:
    with pytest.raises(IncomparableError, match=named) as caught:
        best([measured(1.0), measured(1.0), measured(2.0, other)])
    assert caught.value.exit_code == 7
    with pytest.raises(IncomparableError, match=named):
        difference(measured(1.0), measured(2.0, other))
