"""One seed, many independent streams: every random choice is a pure function of (seed, what it is for). Imports no torch."""

import hashlib


def fold(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2^63) for one purpose, such as `fold(seed, "order", epoch)`; the same on every machine."""
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
