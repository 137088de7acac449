"""Properties S11 to S15: when two data sets are one, and how a set is opened elsewhere."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dvgen.contracts.data_subject import DataSubject, changed_configs
from dvgen.contracts.law import law, must_raise, require, require_equal
from dvgen.contracts.model_subject import Example
from dvgen.errors import DataError, DvgenError
from dvgen.interfaces.data import Dataset

HEX = set("0123456789abcdef")

ELSEWHERE = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
kind, config, location = pickle.load(sys.stdin.buffer)
print("digest", kind(config, location=location).digest())
"""


@law("S11", "the digest is a SHA-256 in 64 hex digits of lower case", once=True)
def digest_is_hex(subject: DataSubject, example: Example) -> None:
    require_sha256(subject.dataset.digest(), "digest")


@law("S11", "the digest of a set is the same when asked again and when opened again", once=True)
def digest_repeats(subject: DataSubject, example: Example) -> None:
    first = subject.dataset.digest()
    require(subject.dataset.digest() == first, "the digest differs when asked again")
    require(subject.opened().digest() == first, "the digest differs when the set is opened again")


@law("S11", "the digest is the same in another process, whatever order its sets and hashes of text have", slow=True, once=True)
def digest_elsewhere(subject: DataSubject, example: Example) -> None:
    expected = subject.dataset.digest()
    found = _digest_of_process(subject, "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1")
    require(found == expected, f"the digest in another process is {found}, here {expected}")


@law("S12", "another config that changes the signals changes the digest", once=True)
def digest_tells(subject: DataSubject, example: Example) -> None:
    own, digest = subject.dataset, subject.dataset.digest()
    for name, configs in changed_configs(subject.config):
        for config in configs:
            other = _opened(subject, config)
            if other is None:
                continue
            if _differ(subject, own, other):
                told = f"{name} {getattr(config, name)!r} and {getattr(subject.config, name)!r}"
                require(other.digest() != digest, f"{told} give other signals and the same digest")
            break


@law("S13", "a set that is opened again is the same: signals, labels, classes and parts", once=True)
def opens_alike(subject: DataSubject, example: Example) -> None:
    _require_same(subject, subject.opened(), "of a second opening")


@law("S14", "a set can be pickled, as for workers, and is the same afterwards", once=True)
def pickles(subject: DataSubject, example: Example) -> None:
    _require_same(subject, pickle.loads(pickle.dumps(subject.dataset)), "after pickle")  # noqa: S301 - made on the line itself


@law(
    "S15", "where there are no data, opening raises DataError and names the place", applies=lambda s: s.kind.located, once=True
)
def missing(subject: DataSubject, example: Example) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "nothing-here")
        opened = DataSubject(subject.kind, subject.config, place).opened
        error = must_raise(opened, DataError, "opening a folder that is not there")
        require(place in str(error), f"the error does not name {place}: {error}")


def require_sha256(value: Any, what: str) -> None:
    """Raise Broken unless the value is a SHA-256 in lower case hex."""
    right = isinstance(value, str) and len(value) == 64 and set(value) <= HEX
    require(right, f"{what} is {value!r}, expected 64 hex digits of lower case")


def _require_same(subject: DataSubject, other: Dataset, when: str) -> None:
    own = subject.dataset
    require(len(other) == len(own), f"{len(other)} signals {when}, expected {len(own)}")
    require_equal(other.signals(subject.tried), own.signals(subject.tried), f"signals {when}")
    require_equal(other.labels, own.labels, f"labels {when}")
    for name in ("shape", "classes", "parts", "exhaustive", "skipped", "rate"):
        found, expected = getattr(other, name), getattr(own, name)
        require(found == expected, f"{name} {when}: {found!r}, expected {expected!r}")


def _opened(subject: DataSubject, config: Any) -> Dataset | None:
    try:
        return subject.opened(config)
    except DvgenError:
        return None


def _differ(subject: DataSubject, own: Dataset, other: Dataset) -> bool:
    if len(own) != len(other) or own.shape != other.shape:
        return True
    return bool((own.signals(subject.tried) != other.signals(subject.tried)).any())


def _digest_of_process(subject: DataSubject, seed: str) -> str:
    given = pickle.dumps(sys.path) + pickle.dumps((subject.kind, subject.config, subject.location))
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", ELSEWHERE],
        input=given,
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        check=False,
    )
    said = done.stdout.decode().split()
    last = done.stderr.decode().splitlines()[-1:]
    require(done.returncode == 0 and said[-2:-1] == ["digest"], f"opening in another process failed: {last}")
    return said[-1]
