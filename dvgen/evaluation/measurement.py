"""A metric value is never a bare number: it carries its interval, its sample size and its protocol."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from attrs import field, frozen
from attrs.validators import deep_iterable, ge, instance_of

from dvgen.errors import ConfigError, DataError, IncomparableError, NonFiniteError

Protocol = tuple[tuple[str, str], ...]
Interval = tuple[float, float]


def _sorted_pairs(protocol: Mapping[str, str] | Sequence[tuple[str, str]]) -> Protocol:
    pairs = protocol.items() if isinstance(protocol, Mapping) else protocol
    return tuple(sorted((name, value) for name, value in pairs))


@frozen
class Key:
    """What was measured and how; two values may be compared only when their keys are equal.

    metric: such as "nats/code" or "FD[rand:v1]". unit: such as "nats/code" or "dB"; "" for a plain number.
    protocol: (name, value) pairs, sorted by name, of everything that a change of would change the value: the codes' or the
    data's identity, the split, the hash of an extractor's weights, the sizes of sets, the sampler. A seed does not belong.
    """

    metric: str = field(validator=instance_of(str))
    unit: str = field(validator=instance_of(str))
    protocol: Protocol = field(converter=_sorted_pairs, validator=deep_iterable(deep_iterable(instance_of(str))))
    higher_is_better: bool = field(default=False, validator=instance_of(bool))

    @property
    def label(self) -> str:
        """A short text for the head of a column: the metric, and its unit where that says more."""
        return self.metric if self.unit in ("", self.metric) else f"{self.metric} {self.unit}"

    def differences(self, other: "Key") -> list[str]:
        """One text for everything in which two keys differ."""
        mine, its = self._parts(), other._parts()
        absent = "(absent)"
        pairs = [(name, mine.get(name, absent), its.get(name, absent)) for name in sorted(mine.keys() | its.keys())]
        return [f"{name}: {one} against {two}" for name, one, two in pairs if one != two]

    def _parts(self) -> dict[str, object]:
        own = {"metric": self.metric, "unit": self.unit, "higher_is_better": self.higher_is_better}
        return own | {f"protocol {name}": value for name, value in self.protocol}


def _finite(instance: "Measurement", attribute: object, value: Any) -> None:
    numbers = value if isinstance(value, tuple) else () if value is None else (value,)
    if not all(math.isfinite(number) for number in numbers):
        raise NonFiniteError(f"{instance.key.label}: {value} is not a finite number and cannot be a result")


@frozen
class Measurement:
    """A value, its 95 % interval (None where there is none), the number of items behind it, and its protocol.

    range: the least and the greatest value over the networks of an extractor that has several; otherwise None.
    Raises NonFiniteError for a value or an interval that is NaN or infinite, which JSON could not hold.
    """

    value: float = field(validator=_finite)
    interval: Interval | None = field(validator=_finite)
    n: int = field(validator=[instance_of(int), ge(1)])
    key: Key = field(validator=instance_of(Key))
    range: Interval | None = field(default=None, validator=_finite)

    def to_dict(self) -> dict[str, Any]:
        """Plain tables, lists and numbers, for results.json."""
        key = {
            "metric": self.key.metric,
            "unit": self.key.unit,
            "protocol": dict(self.key.protocol),
            "higher_is_better": self.key.higher_is_better,
        }
        table = {"value": self.value, "interval": _listed(self.interval), "n": self.n, "key": key}
        return table if self.range is None else table | {"range": _listed(self.range)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises DataError for anything else."""
        try:
            interval, spread = _ends(table["interval"]), _ends(table.get("range"))
            return cls(float(table["value"]), interval, table["n"], Key(**table["key"]), spread)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"not a measurement: {type(error).__name__}: {error}; expected what dvgen wrote") from None


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _ends(interval: Any) -> Interval | None:
    return None if interval is None else (float(interval[0]), float(interval[1]))


def sampler_protocol(about: Mapping[str, str]) -> dict[str, str]:
    """The part of a protocol that says how the measured set was drawn, such as {"temperature": "1.0"}."""
    return {f"sampler {name}": value for name, value in about.items()}


def best(measurements: Sequence[Measurement]) -> int:
    """The place of the best value, the first of equals. Raises IncomparableError when their protocols differ."""
    if not measurements:
        raise ConfigError("no measurements to rank; give at least one")
    for other in measurements[1:]:
        _check_comparable(measurements[0], other)
    sign = -1 if measurements[0].key.higher_is_better else 1
    return min(range(len(measurements)), key=lambda i: sign * measurements[i].value)


def difference(a: Measurement, b: Measurement) -> float:
    """a - b, in their unit. Raises IncomparableError when their protocols differ."""
    _check_comparable(a, b)
    return a.value - b.value


def _check_comparable(a: Measurement, b: Measurement) -> None:
    if a.key != b.key:
        raise IncomparableError(
            f"{a.key.label} and {b.key.label} were measured differently ({'; '.join(a.key.differences(b.key))}); "
            "measure both in one way before comparing them"
        )
