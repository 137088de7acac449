"""What every test shares: one torch thread a worker, hypothesis told about torch's random state, and the plugins."""

import os
import sys
from typing import Any

# before torch is imported, here or in a subprocess that a test starts
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

from dvgen.discovery import discover
from dvgen.registry import Registry

hypothesis.settings.register_profile(
    "dvgen",
    deadline=None,
    max_examples=25,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("dvgen")


class TorchRandom:
    """torch's global random state, in the form that hypothesis seeds and restores; it knows only Python's and numpy's."""

    def seed(self, seed: int) -> None:
        sys.modules["torch"].manual_seed(seed)

    def getstate(self) -> Any:
        return sys.modules["torch"].get_rng_state()

    def setstate(self, state: Any) -> None:
        sys.modules["torch"].set_rng_state(state)


TORCH_RANDOM = TorchRandom()
"""Kept here, because hypothesis holds it by a weak reference."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Once the test modules are imported; where none of them has imported torch, nothing here does."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
        hypothesis.register_random(TORCH_RANDOM)


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Every component of the installed plugins; a plugin that fails is a failure here."""
    found = discover().registry
    assert found.failures == []
    return found


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is learned from toy data stays out of the cache of whoever runs the tests."""
    os.environ["DVGEN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
