"""Weight files are looked for where torch would put them, without the cost of importing torch."""

import hashlib
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch

from dvgen.blocks.weight_file import find_weight_file, load_weight_file, present_weight_file, weight_places
from dvgen.errors import DataError
from dvgen.interfaces.weights import WeightFile

FILE = WeightFile(names=("file.pth", "other.pth"), sha256="0" * 8, url="https://a/file.pth", need="it needs it", instead="none")


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME", "HOME"])
def test_files_are_looked_for_where_torch_puts_them(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME", "DVGEN_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    place = Path(torch.hub.get_dir()) / "checkpoints" / "other.pth"
    assert place.is_relative_to(tmp_path)
    assert present_weight_file(FILE) is None
    place.parent.mkdir(parents=True)
    place.touch()
    assert find_weight_file(FILE) == present_weight_file(FILE) == place


def test_the_given_folder_is_looked_in_first_and_every_name_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path / "own"))
    cached, own = (tmp_path / folder / "other.pth" for folder in ("torch/hub/checkpoints", "own"))
    for path in (cached, own):
        path.parent.mkdir(parents=True)
        path.touch()
    assert find_weight_file(FILE) == own
    own.unlink()
    assert find_weight_file(FILE) == cached
    assert weight_places(FILE)[0] == tmp_path / "own" / "file.pth"


def test_a_file_is_taken_by_the_hash_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "anything"
    torch.save({"w": torch.arange(3.0)}, path)
    full = hashlib.sha256(path.read_bytes()).hexdigest()
    weights = load_weight_file(path, attrs.evolve(FILE, sha256=full[:8]))
    assert (weights.table["w"].tolist(), weights.sha256, weights.path) == ([0, 1, 2], full, path)
    with pytest.raises(DataError, match=f"begins with {full[:8]}, expected 00000000; it is another file or damaged"):
        load_weight_file(path, FILE)
    with pytest.raises(DataError, match="they are the weights of a toy; get"):
        load_weight_file(path, attrs.evolve(FILE, mistaken={full[:8]: "the weights of a toy"}))


def test_looking_for_a_file_imports_no_torch() -> None:
    code = "import sys, dvgen.blocks.weight_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
