"""Axes: from numbers to places on a page, round numbers for their ticks, and words for those numbers."""

import math
from collections.abc import Iterable, Sequence
from typing import Self, final

from attrs import frozen

from dvgen.errors import ShapeError

STEPS = (1, 2, 5)
PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
"""From 10 000 on: 12 000 is 12k, 2e15 is 2P."""


@final
@frozen
class Scale:
    """One axis: values from low to high stand at start to stop (pixels); logarithmic where `log`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], start: float, stop: float, *, log: bool = False, margin: float = 0.05) -> Self:
        """An axis that holds all values, with a margin (share of their span) on both sides.

        Raises ShapeError for no values, or for one that is not positive on a logarithmic axis.
        """
        found = list(values)
        if not found or (log and min(found) <= 0):
            raise ShapeError(f"expected at least one {'positive ' if log else ''}value for an axis, got {found[:3]}")
        low, high = (math.log(v) if log else v for v in (min(found), max(found)))
        # a single value needs a width too, or nothing could be drawn beside it
        room = (high - low) * margin or (0.5 if log else abs(high) * 0.05 or 1.0)
        ends = [math.exp(v) if log else v for v in (low - room, high + room)]
        return cls(ends[0], ends[1], start, stop, log)

    def __call__(self, value: float) -> float:
        """Where a value stands; beyond start or stop when it is outside of low to high."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.stop - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers from low to high, about `count` of them: 2 * count at most, one at least."""
        if not self.log:
            return _multiples(self.low, self.high, count)
        for digits in ((1,), (1, 3), STEPS):
            found = _decades(self.low, self.high, digits)
            if len(found) >= min(3, count):
                return found[:: math.ceil(len(found) / (2 * count))]
        return _multiples(self.low, self.high, count)


def _multiples(low: float, high: float, count: int) -> list[float]:
    """All multiples, within low to high, of the least round step that has at most count + 1 of them there."""
    power = math.floor(math.log10((high - low) / (count + 1)))
    steps = (float(f"{digit}e{power + more}") for more in range(3) for digit in STEPS)
    ends = ((step, math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)) for step in steps)
    step, first, last = next(found for found in ends if found[2] - found[1] <= count)
    # through text, so that 3 * 0.1 is 0.3
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _decades(low: float, high: float, digits: Sequence[int]) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The ticks in few signs, with as many decimals as they need and one prefix (k, M, G, ...) a number."""
    return [short(tick) for tick in ticks]


def short(value: float, digits: int = 6) -> str:
    """A number in few signs: 0.25, 1500, 12k, 2.5M, 3e-07; at most `digits` significant ones."""
    for size, prefix in PREFIXES:
        if abs(value) >= size and abs(value) >= 1e4:
            return f"{value / size:.{min(digits, 4)}g}{prefix}"
    if value and abs(value) < 1e-4:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{float(mantissa):g}e{int(power)}"
    return f"{value:.{digits}g}"
