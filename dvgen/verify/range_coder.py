"""A range coder: symbols of given probabilities as bytes, and back (Martin, 1979; Schindler, 1998). Integers only.

An interval of the numbers below TOTAL stands for a symbol: its first number and its size, which is the symbol's probability
times TOTAL. The message is a number in the interval that is left when every symbol has narrowed it.
"""

from typing import final

PRECISION = 40
"""Bits of a probability: a symbol of less than 2^-40 costs at most 40 bits, and 4096 of them take 4e-9 from the others."""
TOTAL = 1 << PRECISION

_WIDTH = 64
_WHOLE = 1 << _WIDTH
_LEAST = _WHOLE >> 8
"""The range is kept above this, so that dividing it by TOTAL loses less than 2^-16 of it."""


@final
class RangeEncoder:
    """Symbols to bytes: `encode` each, then `finish`."""

    def __init__(self) -> None:
        self._low = 0
        self._range = _WHOLE
        self._bytes = bytearray()

    def encode(self, first: int, size: int) -> None:
        """Add the symbol of the interval [first, first + size) of the numbers below TOTAL. Raises ValueError for no such."""
        check_interval(first, size)
        self._low, self._range = self._low + (self._range >> PRECISION) * first, (self._range >> PRECISION) * size
        self._carry()
        while self._range < _LEAST:
            self._shift()
            self._range <<= 8

    def finish(self) -> bytes:
        """All symbols in as few bytes as tell them; the decoder reads zeros behind the last."""
        # the range is at least _LEAST: the next multiple of it lies inside, and has one byte that is not zero
        self._low = -(-self._low // _LEAST) * _LEAST
        self._carry()
        self._shift()
        return bytes(self._bytes).rstrip(b"\0")

    def _carry(self) -> None:
        """Add what overflowed to the bytes that are written; it runs through those that are full."""
        if self._low < _WHOLE:
            return
        self._low -= _WHOLE
        place = len(self._bytes) - 1
        while self._bytes[place] == 0xFF:
            self._bytes[place] = 0
            place -= 1
        self._bytes[place] += 1

    def _shift(self) -> None:
        self._bytes.append(self._low >> (_WIDTH - 8))
        self._low = (self._low << 8) % _WHOLE


@final
class RangeDecoder:
    """Bytes to symbols: `target` tells a number in the symbol's interval, `advance` moves on past that symbol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._read = 8
        self._offset = int.from_bytes(data[:8].ljust(8, b"\0"))
        self._range = _WHOLE

    def target(self) -> int:
        """A number below TOTAL in the interval of the next symbol."""
        return min(self._offset // (self._range >> PRECISION), TOTAL - 1)

    def advance(self, first: int, size: int) -> None:
        """Go on past the symbol of this interval. Raises ValueError for an interval that `target` does not lie in."""
        check_interval(first, size)
        if not first <= self.target() < first + size:
            raise ValueError(f"{self.target()} is not in [{first}, {first + size})")
        self._offset -= (self._range >> PRECISION) * first
        self._range = (self._range >> PRECISION) * size
        while self._range < _LEAST:
            byte = self._data[self._read] if self._read < len(self._data) else 0
            self._read += 1
            self._offset = (self._offset << 8) | byte
            self._range <<= 8


def check_interval(first: int, size: int) -> None:
    """Raise ValueError unless [first, first + size) is a part of the numbers below TOTAL, and not empty."""
    if not 0 <= first < first + size <= TOTAL:
        raise ValueError(f"expected an interval of the numbers below 2^{PRECISION}, got [{first}, {first + size})")
