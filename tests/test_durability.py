"""What is written is on disk before it has its name, and a process may be killed at any call."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dvgen import sealed
from dvgen.sealed import MANIFEST, seal, verify, write_text

CONTENTS = {"a.bin": b"\x00\x01\x02\x03", "b.json": b'{"x": 1}\n', "empty": b""}
ABOUT = {"step": 7}


def fill(folder: Path) -> None:
    for name, data in CONTENTS.items():
        (folder / name).write_bytes(data)


def fill_new(folder: Path) -> None:
    (folder / "new").write_bytes(b"new")


def hidden(parent: Path) -> list[str]:
    return [path.name for path in parent.iterdir() if path.name.startswith(".")]


def recorded(monkeypatch, root: Path) -> list[str]:
    """The calls that matter for durability, in order, as "verb name"."""
    calls: list[str] = []
    opened: dict[int, str] = {}
    real_open, real_fsync, real_rename, real_replace = os.open, os.fsync, Path.rename, Path.replace

    def open_(path, flags, *rest, **named):
        handle = real_open(path, flags, *rest, **named)
        opened[handle] = "parent" if Path(path) == root else Path(path).name
        return handle

    def fsync(handle):
        calls.append(f"fsync {opened[handle]}")
        real_fsync(handle)

    def moved(real):
        def move(self, to):
            calls.append(f"rename {self.name} {Path(to).name}")
            return real(self, to)

        return move

    monkeypatch.setattr(sealed.os, "open", open_)
    monkeypatch.setattr(sealed.os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", moved(real_rename))
    monkeypatch.setattr(Path, "replace", moved(real_replace))
    return calls


def test_a_folder_is_on_disk_before_its_name_is_and_the_name_before_the_call_returns(tmp_path, monkeypatch):
    calls = recorded(monkeypatch, tmp_path)
    seal(tmp_path / "it", fill, {})
    aside = f".writing-it-{os.getpid()}"
    assert sorted(calls[:4]) == sorted(f"fsync {name}" for name in [*CONTENTS, MANIFEST])
    assert calls[4:] == [f"fsync {aside}", f"rename {aside} it", "fsync parent"]


def test_a_text_file_is_on_disk_before_its_name_is(tmp_path, monkeypatch):
    calls = recorded(monkeypatch, tmp_path)
    write_text(tmp_path / "run.json", "text")
    aside = f".run.json-{os.getpid()}-{threading.get_ident()}"
    assert calls == [f"fsync {aside}", f"rename {aside} run.json", "fsync parent"]


KILLED = """
import os, signal, sys
from pathlib import Path
from dvgen import sealed
left = int(sys.argv[2])
def killing(real):
    def call(*arguments, **named):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*arguments, **named)
    return call
Path.rename, os.fsync, sealed.shutil.rmtree = killing(Path.rename), killing(os.fsync), killing(sealed.shutil.rmtree)
sealed.seal(Path(sys.argv[1]), lambda folder: (folder / "new").write_bytes(b"new"), {"step": 8})
"""


@pytest.mark.parametrize("replace", [False, True])
def test_killed_at_any_call_a_folder_is_old_or_new_or_absent_and_the_next_seal_works(tmp_path, replace):
    outcomes = []
    for survived in range(20):
        target = tmp_path / str(survived) / "it"
        if replace:
            seal(target, fill, ABOUT)
        killed = subprocess.run([sys.executable, "-c", KILLED, str(target), str(survived)], capture_output=True, text=True)
        assert killed.returncode in (0, -signal.SIGKILL), killed.stderr
        outcomes.append(verify(target)["step"] if target.exists() else None)
        if outcomes[-1] is None and replace:  # between the two renames both are whole, beside the name
            asides = [path for path in target.parent.iterdir() if path.name.startswith((".old", ".writing"))]
            assert sorted(verify(path)["step"] for path in asides) == [7, 8]
        seal(target, fill_new, {"step": 9})
        assert verify(target) == {"step": 9}
        if killed.returncode == 0:
            break
    assert killed.returncode == 0
    assert set(outcomes) == ({7, None, 8} if replace else {None, 8})


def test_a_reader_sees_the_old_text_or_the_new(tmp_path):
    path = tmp_path / "run.json"
    texts = ["a" * 100_000, "b" * 100_000]
    write_text(path, texts[0])
    writer = threading.Thread(target=lambda: [write_text(path, texts[i % 2]) for i in range(50)])
    writer.start()
    while writer.is_alive():
        assert path.read_text() in texts
    writer.join()
    assert hidden(tmp_path) == []


def test_two_threads_may_write_one_file(tmp_path):
    path = tmp_path / "run.json"
    failed: list[BaseException] = []

    def write(text: str) -> None:
        try:
            for _ in range(50):
                write_text(path, text)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert path.read_text() in ("one", "two")


def test_a_failed_write_keeps_the_old_text_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_text(path, "old")

    def full(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(sealed.os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert hidden(tmp_path) == []
