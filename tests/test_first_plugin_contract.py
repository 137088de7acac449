"""Rule: the tests that the tutorial tells a plugin's author to write exist, and its plugin passes them."""

import sys

from doc_pages import ROOT

sys.path.append(str(ROOT / "docs" / "example_plugin"))

from test_round import TestRoundQuantizer

__all__ = ["TestRoundQuantizer"]


def test_the_decorator_made_tests() -> None:
    assert sum(name.startswith("test_p") for name in vars(TestRoundQuantizer)) > 30
