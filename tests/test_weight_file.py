"""Weight files are looked for where torch would put them, without the cost of importing torch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dvgen.blocks.weight_file import find_weight_file


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME", "HOME"])
def test_files_are_looked_for_where_torch_puts_them(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME", "DVGEN_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    place = Path(torch.hub.get_dir()) / "checkpoints" / "file.pth"
    assert place.is_relative_to(tmp_path)
    place.parent.mkdir(parents=True)
    place.touch()
    assert find_weight_file(["other.pth", "file.pth"], need="", url="", instead="") == place


def test_looking_for_a_file_imports_no_torch() -> None:
    code = "import sys, dvgen.blocks.weight_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
