"""Sealed folders are whole or not there, and no byte of them changes unseen."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvgen.errors import IntegrityError
from dvgen.sealed import MANIFEST, seal, sha256, verify, write_json

CONTENTS = {"a.bin": b"\x00\x01\x02\x03", "b.json": b'{"x": 1}\n', "empty": b""}
ABOUT = {"step": 7, "loss": 0.1, "widths": (1, 2), "nested": {"10": 1, "9": None}}


def fill(folder: Path) -> None:
    for name, data in CONTENTS.items():
        (folder / name).write_bytes(data)


def fill_new(folder: Path) -> None:
    (folder / "new").write_bytes(b"new")


@pytest.fixture
def folder(tmp_path):
    seal(tmp_path / "it", fill, ABOUT)
    return tmp_path / "it"


def hidden(parent: Path) -> list[str]:
    return [path.name for path in parent.iterdir() if path.name.startswith(".")]


def test_a_sealed_folder_gives_back_what_was_said_about_it(folder):
    assert verify(folder) == json.loads(json.dumps(ABOUT))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST} == CONTENTS
    assert hidden(folder.parent) == []


@given(
    st.dictionaries(
        st.one_of(st.integers(), st.text(max_size=3)),
        st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()), st.lists, max_leaves=4),
        max_size=4,
    )
)
def test_whatever_json_holds_can_be_said_about_a_folder(tmp_path_factory, about):
    folder = tmp_path_factory.mktemp("sealed") / "it"
    seal(folder, fill, about)
    assert json.dumps(verify(folder), sort_keys=True) == json.dumps(json.loads(json.dumps(about)), sort_keys=True)


def test_every_byte_flip_is_caught_in_every_file_manifest_included(folder):
    for name in [*CONTENTS, MANIFEST]:
        path = folder / name
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            with pytest.raises(IntegrityError):
                verify(folder)
        path.write_bytes(whole)
    verify(folder)


def test_every_truncation_and_every_longer_file_is_caught(folder):
    for name in [*CONTENTS, MANIFEST]:
        path = folder / name
        whole = path.read_bytes()
        for damaged in [whole[:length] for length in range(len(whole))] + [whole + b"\n", whole + b"\x00"]:
            path.write_bytes(damaged)
            with pytest.raises(IntegrityError):
                verify(folder)
        path.write_bytes(whole)
    verify(folder)


@pytest.mark.parametrize("name", [*CONTENTS, MANIFEST])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(IntegrityError, match=name):
        verify(folder)


def test_a_file_too_many_is_named(folder):
    (folder / "stranger").write_bytes(b"")
    with pytest.raises(IntegrityError, match="stranger is unexpected"):
        verify(folder)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '{"schema": 1, "about": [], "files": []}', "\xff"])
def test_a_manifest_of_another_shape_is_damage_not_a_traceback(folder, text):
    (folder / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(IntegrityError, match="damaged"):
        verify(folder)


def test_a_newer_schema_says_so(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"schema": 2}))
    with pytest.raises(IntegrityError, match="schema 2, this dvgen reads 1; update dvgen"):
        verify(folder)


def test_a_link_or_a_folder_in_place_of_a_file_is_refused(folder):
    (folder / "a.bin").rename(folder.parent / "elsewhere")
    (folder / "a.bin").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(IntegrityError, match=r"a\.bin"):
        verify(folder)
    (folder / "a.bin").unlink()
    (folder / "a.bin").mkdir()
    with pytest.raises(IntegrityError, match=r"a\.bin"):
        verify(folder)


@pytest.mark.parametrize("place", ["nowhere", "it/a.bin"])
def test_what_is_no_sealed_folder_was_never_finished(folder, place):
    with pytest.raises(IntegrityError, match="never finished"):
        verify(folder.parent / place)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
def test_a_crash_while_filling_leaves_nothing(tmp_path, error):
    def broken(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        seal(tmp_path / "it", broken, {})
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_replacing_leaves_the_older_folder(folder, monkeypatch):
    def broken(aside: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        seal(folder, broken, {})
    assert verify(folder)["step"] == 7

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: broken(self) if ".writing" in self.name else rename(self, to))
    with pytest.raises(OSError, match="disk full"):
        seal(folder, fill_new, {})
    assert verify(folder)["step"] == 7
    assert hidden(folder.parent) == []


def test_a_newer_folder_replaces_all_of_the_older(folder):
    seal(folder, fill_new, {"step": 8})
    assert verify(folder) == {"step": 8}
    assert {path.name for path in folder.iterdir()} == {"new", MANIFEST}
    assert hidden(folder.parent) == []


def test_json_is_one_text_for_one_value(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": [1.5, None]})
    write_json(tmp_path / "b", {"a": [1.5, None], "b": 1})
    assert json.loads((tmp_path / "a").read_text()) == {"b": 1, "a": [1.5, None]}
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")


def test_sha256_is_the_known_one(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_rubbish_of_a_killed_process_of_the_same_number_is_in_nobodys_way(folder):
    for prefix in (".writing", ".old"):
        shutil.copytree(folder, folder.parent / f"{prefix}-it-{os.getpid()}")
    seal(folder, fill_new, {"step": 8})
    assert verify(folder) == {"step": 8}
    assert hidden(folder.parent) == []
