"""`dvgen weights`: files get their place only by their content, whole or not at all, and never from the network unasked."""

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, final

import attrs
import pluggy
import pytest

from dvgen.cli.weights import weights
from dvgen.discovery import Plugins
from dvgen.errors import ConfigError, DataError
from dvgen.interfaces.loss import Loss
from dvgen.interfaces.weights import WeightFile
from dvgen.registry import Component, Registry, Supplied

CONTENT = b"the weights of a toy"
SHA = hashlib.sha256(CONTENT).hexdigest()
MISTAKEN = b"another network"
FILE = WeightFile(
    names=("toy.pth", "also-toy.pth"),
    sha256=SHA[:8],
    url="http://127.0.0.1:1/toy.pth",
    need="the toy needs weights",
    instead="nothing",
    mistaken={hashlib.sha256(MISTAKEN).hexdigest()[:8]: "another toy", "0cc3c7bd": "a famous network"},
)


class Toy(Loss):
    """Needs a file."""

    @attrs.frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    weight_files = (FILE,)

    def forward(self, reconstructed: Any, signals: Any) -> Any:
        return signals.mean()


@final
class Again(Toy):
    """Needs the same file."""


def run(*arguments: str) -> None:
    targets = {"toy": "Toy", "again": "Again", "broken": "Absent"}
    components = [Component("loss", name, f"{__name__}:{cls}", "a toy") for name, cls in targets.items()]
    registry = Registry([Supplied(component, "toys", "toys 1") for component in components])
    weights.main(arguments, obj=lambda: Plugins(pluggy.PluginManager("dvgen"), registry), standalone_mode=False)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are looked for: own, then torch/hub/checkpoints."""
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path / "own"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    run("list", "--json")
    (row,) = json.loads(capsys.readouterr().out)["weights"]
    return row


def test_a_file_is_listed_with_its_state_its_places_and_all_who_need_it(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = listed(capsys)
    assert (row["name"], row["status"], row["path"]) == ("toy.pth", "absent", None)
    assert row["needed_by"] == ["loss again", "loss toy"]
    cached = folders / "torch" / "hub" / "checkpoints"
    assert row["places"] == [str(folder / name) for folder in (folders / "own", cached) for name in FILE.names]
    cached.mkdir(parents=True)
    (cached / "also-toy.pth").write_bytes(CONTENT)
    assert (listed(capsys)["status"], listed(capsys)["path"]) == ("present", str(cached / "also-toy.pth"))
    (cached / "toy.pth").write_bytes(b"damaged")  # found first, as by the component itself
    assert listed(capsys)["status"] == "wrong hash"
    run("list")
    text = capsys.readouterr().out
    assert all(part in text for part in ("toy.pth: wrong hash", str(cached / "toy.pth"), FILE.url, "dvgen weights add FILE"))


@pytest.mark.parametrize("name", ["toy.pth", "download (1)"])
def test_a_file_is_added_under_its_first_name_to_the_first_place(
    name: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / name).write_bytes(CONTENT)
    run("add", str(folders / name), "--json")
    told = json.loads(capsys.readouterr().out)
    assert told == {"schema": 1, "name": "toy.pth", "file": str(folders / "own" / "toy.pth"), "sha256": SHA}
    assert [path.name for path in (folders / "own").iterdir()] == ["toy.pth"]
    assert (folders / "own" / "toy.pth").read_bytes() == CONTENT
    assert listed(capsys)["status"] == "present"
    run("add", str(folders / "own" / "toy.pth"))  # again, from its own place
    assert (folders / "own" / "toy.pth").read_bytes() == CONTENT


REFUSED = [
    ("toy.pth", b"damaged", "toy.pth: not the weights .* expected .*; it is another file or damaged"),
    ("any.pth", b"unknown", "nothing needs a file whose SHA-256 begins with"),
    ("toy.pth", MISTAKEN, "refused: this is another toy; toy.pth is needed"),
    ("toy_google-0cc3c7bd.pth", b"whatever", "refused: this is a famous network; toy.pth is needed"),
]


@pytest.mark.parametrize(("name", "content", "reason"), REFUSED)
def test_another_file_is_refused_in_one_line_and_nothing_is_left(name: str, content: bytes, reason: str, folders: Path) -> None:
    (folders / name).write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        run("add", str(folders / name))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert not (folders / "own").exists()


def test_a_file_that_is_not_there_and_a_folder_that_cannot_be_are_data_errors(folders: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        run("add", str(folders / "nowhere"))
    (folders / "own").touch()
    (folders / "toy.pth").write_bytes(CONTENT)
    with pytest.raises(DataError, match="choose another folder with DVGEN_WEIGHTS"):
        run("add", str(folders / "toy.pth"))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the file's address leads to."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    folder = tmp_path / "published"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{served.server_port}/toy.pth"
        monkeypatch.setattr(Toy, "weight_files", (attrs.evolve(FILE, url=url),))
        yield folder
        served.shutdown()


def test_nothing_is_fetched_unless_it_is_allowed(folders: Path, server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (server / "toy.pth").write_bytes(CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("the network was asked"))
        with pytest.raises(DataError, match=r"add --allow-download to fetch http://127.0.0.1"):
            run("get", "toy.pth")
    assert not (folders / "own").exists()
    run("get", "also-toy.pth", "--allow-download")
    assert [path.name for path in (folders / "own").iterdir()] == ["toy.pth"]
    assert (folders / "own" / "toy.pth").read_bytes() == CONTENT


def test_a_download_that_fails_leaves_what_was_there(folders: Path, server: Path) -> None:
    """Not found, cut short, another content; each is told with the address."""
    (folders / "own").mkdir()
    (folders / "own" / "toy.pth").write_bytes(b"old")
    with pytest.raises(DataError, match=r"toy.pth: cannot be fetched: .*File not found"):
        run("get", "toy.pth", "--allow-download")
    for content in (CONTENT[:-1], MISTAKEN):
        (server / "toy.pth").write_bytes(content)
        with pytest.raises(DataError, match=r"127.0.0.1.*not the weights"):
            run("get", "toy.pth", "--allow-download")
    assert [(path.name, path.read_bytes()) for path in (folders / "own").iterdir()] == [("toy.pth", b"old")]


def test_an_unknown_name_is_told_the_known_ones(folders: Path) -> None:
    with pytest.raises(ConfigError, match=r"'toy.pht': nothing needs such a file .did you mean 'toy.pth'.*also-toy.pth"):
        run("get", "toy.pht", "--allow-download")


def test_the_components_at_hand_declare_the_files_that_they_look_for(
    registry: Registry, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights.main(["list", "--json"], obj=lambda: Plugins(pluggy.PluginManager("dvgen"), registry), standalone_mode=False)
    rows = {row["name"]: row["needed_by"] for row in json.loads(capsys.readouterr().out)["weights"]}
    assert rows["weights-inception-2015-12-05-6726825d.pth"] == ["features inception", "features inception-pt"]
    assert {name for name, needed_by in rows.items() if needed_by == ["loss lpips"]} == {
        "vgg16-397923af.pth",
        "alexnet-owt-7be5be79.pth",
        "squeezenet1_1-b8a52dc0.pth",
    }
