"""The folder of what can be made again is where the environment says, and finding it costs no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from dvgen.blocks.cache_folder import cache_folder


@pytest.mark.parametrize(("named", "found"), [(None, ".cache/dvgen"), ("", ".cache/dvgen"), ("~/elsewhere", "elsewhere")])
def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, named: str | None, found: str) -> None:
    """An empty variable is no name: the present folder must not fill with caches."""
    monkeypatch.setenv("HOME", "/home/somebody")
    if named is None:
        monkeypatch.delenv("DVGEN_CACHE", raising=False)
    else:
        monkeypatch.setenv("DVGEN_CACHE", named)
    assert cache_folder() == Path("/home/somebody") / found


def test_finding_it_does_not_load_torch() -> None:
    """`dvgen doctor` and the listing of plugins answer before torch could be imported."""
    code = "import sys, dvgen.blocks.cache_folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
