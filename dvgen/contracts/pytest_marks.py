"""A pytest plugin that knows the mark of long tests, so that `--strict-markers` accepts them. Imports no torch."""

from typing import Any


def pytest_configure(config: Any) -> None:
    """Register the mark `slow`."""
    config.addinivalue_line("markers", "slow: compiles or starts processes (a law of a dvgen contract)")
