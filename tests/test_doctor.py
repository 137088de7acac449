"""`dvgen doctor`: what is absent is no fault, what is broken has an exit code, and nothing is changed or fetched."""

import hashlib
import json
import socket
import sys
from pathlib import Path
from typing import Any

import attrs
import pluggy
import pytest

from dvgen.cli.doctor import doctor
from dvgen.discovery import Plugins
from dvgen.registry import Component, Failure, Registry, Supplied

WEIGHTS = "alexnet-owt-7be5be79.pth"


def examined(registry: Registry, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the findings by what they are of."""
    with pytest.raises(SystemExit) as caught:
        doctor.main(["--json"], obj=lambda: Plugins(pluggy.PluginManager("dvgen"), registry), standalone_mode=False)
    findings = json.loads(capsys.readouterr().out)["findings"]
    return int(caught.value.code or 0), {finding["what"]: finding for finding in findings}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on it and no network."""
    for name in ("DVGEN_WEIGHTS", "TORCH_HOME", "DVGEN_DATA", "DVGEN_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))

    def refused(*_: Any) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    return tmp_path


def test_a_bare_machine_is_whole(registry: Registry, machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = examined(registry, capsys)
    assert code == 0
    assert {found[what]["status"] for what in ("python", "torch", "torchvision", "threads", "components", "cache")} == {"ok"}
    assert found["data shapes"]["status"] == "ok"
    assert "train 7" in found["data shapes"]["detail"]
    assert found["data mnist"]["status"] == found[f"weights {WEIGHTS}"]["status"] == "absent"
    assert "needed by loss lpips" in found[f"weights {WEIGHTS}"]["detail"]
    assert list(machine.iterdir()) == []


def test_a_damaged_file_of_weights_is_broken(registry: Registry, machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (machine / "DVGEN_WEIGHTS").mkdir()
    (machine / "DVGEN_WEIGHTS" / WEIGHTS).write_bytes(b"cut short")
    code, found = examined(registry, capsys)
    assert (code, found[f"weights {WEIGHTS}"]["status"]) == (3, "BROKEN")
    assert "wrong hash" in found[f"weights {WEIGHTS}"]["detail"]


def test_a_failed_plugin_and_a_component_that_cannot_be_imported_are_the_gravest_faults(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (machine / "DVGEN_CACHE").touch()  # a graver fault decides
    broken = Registry(failures=[Failure("theirs", "theirs 1", "SyntaxError: no")])
    code, found = examined(broken, capsys)
    assert (code, found["plugin theirs"]["detail"]) == (5, "theirs 1: SyntaxError: no")
    absent = Registry([Supplied(Component("loss", "gone", "nowhere_at_all:Gone", "x"), "theirs", "theirs 1")])
    code, found = examined(absent, capsys)
    assert (code, found["loss gone"]["status"]) == (5, "BROKEN")
    assert found["components"]["detail"] == "0 of 1 plugins"


def test_a_cache_that_cannot_be_written_is_broken(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (machine / "DVGEN_CACHE").touch()
    code, found = examined(Registry(), capsys)
    assert (code, found["cache"]["status"]) == (3, "BROKEN")


def test_torch_and_torchvision_must_fit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(
        sys.modules["dvgen.cli.doctor"], "requires", lambda _: ["numpy", "torch==1.0.0", 'pillow>=5; extra == "x"']
    )
    code, found = examined(Registry(), capsys)
    assert code == 1
    assert "is for torch 1.0.0, and torch" in found["torchvision"]["detail"]


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        doctor.main([], obj=lambda: Plugins(pluggy.PluginManager("dvgen"), Registry()), standalone_mode=False)
    first = capsys.readouterr().out.splitlines()[0].split()
    assert first[:2] == ["dvgen", "ok"]


def test_a_file_with_the_right_content_is_ok(
    registry: Registry, machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dvgen_features.inception import FILE, Inception

    content = b"weights"
    (machine / "DVGEN_WEIGHTS").mkdir()
    (machine / "DVGEN_WEIGHTS" / FILE.names[1]).write_bytes(content)
    asked = attrs.evolve(FILE, sha256=hashlib.sha256(content).hexdigest()[:8])
    monkeypatch.setattr(Inception, "weight_files", (asked,))
    code, found = examined(registry, capsys)
    assert (code, found[f"weights {FILE.names[0]}"]["status"]) == (0, "ok")
