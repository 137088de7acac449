"""One seed, many independent streams: every random choice is a pure function of (seed, what it is for). Imports no torch."""

import hashlib


def fold(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2^63) for one purpose, such as `fold(seed, "order", epoch)`; the same on every machine.

    A number and its digits are one purpose; everything else that differs is folded differently.
    """
    # escaped, so that ("a/b",) and ("a", "b") stay two purposes
    text = "/".join(str(part).replace("\\", "\\\\").replace("/", "\\/") for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
