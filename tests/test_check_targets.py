"""Rule: what `dvgen check` is to check, and where its data lie, is understood, or one line says what was expected."""

import json
import re
from pathlib import Path

import pytest
from check_mistakes import write_plugin
from click.testing import CliRunner, Result
from PIL import Image

from dvgen.cli.check import check
from dvgen.discovery import discover
from dvgen.errors import ConfigError, PluginError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(check, arguments, obj=discover)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("fsk", "did you mean 'fsq'?"),
        ("quantizer:fsk", "did you mean 'fsq'?"),
        ("quantiser:ema", "'quantiser' is no kind and no data set (did you mean 'quantizer'?)"),
        ("", "nothing named ''"),
        ("./nowhere", "nowhere: not there; expected the folder of a plugin"),
        ("./file.py", "file.py: a file; expected the folder of a plugin"),
        ("file.py", "file.py is a file, and no plugin"),
        ("empty", "empty is a folder without pyproject.toml, and no plugin"),
        ("./empty", "empty/pyproject.toml: No such file or directory; expected the folder of a plugin"),
        ("folder:", "nothing stands behind the colon; expected where the data lie, as in folder:DIR"),
    ],
)
def test_an_unknown_target_is_the_users_fault(target: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file.py").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    error = run(target).exception
    assert isinstance(error, ConfigError)
    assert error.exit_code == 2
    assert words in str(error)
    assert "\n" not in str(error)


ENTRIES = "[project.entry-points.dvgen]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[project]\nname = "x"\n', "no [project.entry-points.dvgen]"),
        ("project = 3", "no [project.entry-points.dvgen]"),
        ('[project.entry-points]\ndvgen = "x"\n', "no [project.entry-points.dvgen]"),
        ("[project", "not TOML"),
        (f'{ENTRIES}x = ""\n', "entry point x is ''; expected the name of a module"),
        (f'{ENTRIES}x = "dvgen_x/__init__.py"\n', "expected the name of a module"),
        (f'{ENTRIES}x = "no:ema"\n', "expected the name of a module"),
    ],
)
def test_a_folder_that_is_no_plugin_of_dvgen_is_the_users_fault(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    error = run(str(tmp_path), "--json").exception
    assert isinstance(error, ConfigError)
    assert f"{tmp_path}/pyproject.toml: " in str(error)
    assert words in str(error)
    assert "\n" not in str(error)


def test_a_module_that_is_not_there_is_told_as_one_that_the_entry_point_names(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f'{ENTRIES}x = "dvgen_not_there"\n', encoding="utf-8")
    error = run(str(tmp_path)).exception
    assert isinstance(error, PluginError)
    assert "the entry point in pyproject.toml names it" in str(error)


def test_a_listing_that_dvgen_cannot_see_is_told_with_what_makes_it_seen(tmp_path: Path) -> None:
    write_plugin(tmp_path, "dvgen_unmarked", "quantizer")
    listing = tmp_path / "dvgen_unmarked" / "__init__.py"
    listing.write_text(listing.read_text(encoding="utf-8").replace("@hookimpl\n", ""), encoding="utf-8")
    error = run(str(tmp_path)).exception
    assert isinstance(error, ConfigError)
    assert "marked with @hookimpl" in str(error)


def test_a_name_that_two_plugins_supply_breaks_a_rule_that_names_both(tmp_path: Path) -> None:
    write_plugin(tmp_path, "dvgen_doubled", "quantizer")
    listing = tmp_path / "dvgen_doubled" / "__init__.py"
    listing.write_text(listing.read_text(encoding="utf-8").replace('"round"', '"fsq"'), encoding="utf-8")
    done = run(str(tmp_path))
    assert done.exit_code == 5
    assert re.search(r"quantizer 'fsq' is supplied twice: by plugin 'fsq' of .* and plugin 'dvgen_doubled'", done.stdout)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of six images in two classes."""
    for i in range(6):
        path = tmp_path / "images" / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (40 * i, 10, 200)).save(path)
    return tmp_path / "images"


@pytest.mark.parametrize("written", ["folder:{}", "dataset:folder:{}", "folder --location {}"])
def test_a_data_set_is_checked_where_it_lies(images: Path, written: str) -> None:
    """As --data says it, and by an option."""
    done = run(*written.format(images).split(), "--examples", "1", "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    (part,) = document["checks"]
    assert part["not_tried"] == []
    assert {rule["state"] for rule in part["rules"] if rule["name"] == "S1"} == {"kept"}
    assert str(images) in document["markdown"].splitlines()[0]


def test_the_data_set_of_a_folder_of_a_plugin_takes_a_location_too(tmp_path: Path, images: Path) -> None:
    (tmp_path / "dvgen_read.py").write_text(
        "from dvgen import Component, hookimpl\n\n\n@hookimpl\ndef dvgen_components():\n"
        "    return [Component('dataset', 'read', 'dvgen_images.folder:Folder', 'images')]\n",
        encoding="utf-8",
    )
    (tmp_path / "pyproject.toml").write_text(f'{ENTRIES}x = "dvgen_read"\n', encoding="utf-8")
    done = run(str(tmp_path), "--location", str(images), "--examples", "1", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["checks"][0]["not_tried"] == []


def test_data_that_were_named_and_are_not_there_are_the_exit_code(tmp_path: Path) -> None:
    done = run(f"folder:{tmp_path}/nowhere")
    assert done.exit_code == 3
    assert f"folder: no folder {tmp_path}/nowhere" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fsq", "--location", "x"], "it is no data set"),
        (["dvgen", "--location", "x"], "it is several data sets"),
        (["folder:x", "--location", "y"], "two locations"),
    ],
)
def test_a_location_that_nothing_takes_is_the_users_fault(arguments: list[str], words: str) -> None:
    error = run(*arguments).exception
    assert isinstance(error, ConfigError)
    assert words in str(error)
