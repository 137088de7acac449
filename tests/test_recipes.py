"""Recipes on the command line: listed, described, changed by options; a broken one names its plugin and file."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_runs import dvgen

from dvgen.cli.compare import grid
from dvgen.cli.options import AXES, one
from dvgen.discovery import discover
from dvgen.errors import ConfigError
from dvgen.experiment import Experiment, table_of
from dvgen.training.tokenizer import tokenizer_config

NAMES = discover().registry.names("recipe")
SMALL = """
[recipe]
source = "a test"
shape = [3, 16, 16]
[data]
use = "folder"
size = 16
[encoder]
use = "vqvae"
channels = 8
downsample = 4
[decoder]
use = "vqvae"
channels = 8
downsample = 4
[quantizer]
use = "vq"
num_codes = 16
dim = 4
[[prior]]
use = "gpt"
dim = 16
heads = 2
[train.tokenizer]
budget = "steps:77"
"""


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a plugin `shipping`, for -p shipping, with the recipe `small`; the working folder is empty."""
    package = tmp_path / "plugins" / "shipping"
    (package / "recipes").mkdir(parents=True)
    (package / "recipes" / "small.toml").write_text(SMALL)
    (package / "__init__.py").write_text(
        "from dvgen import Component, hookimpl\n\n\n@hookimpl\ndef dvgen_components():\n"
        "    return [Component('recipe', 'small', 'shipping:recipes/small.toml', 'for a test')]\n"
    )
    (tmp_path / "work").mkdir()
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "shipping", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("DVGEN_DATA", raising=False)
    return package


def options(**given: Any) -> dict[str, Any]:
    """The options of `train` and `compare` as click hands them over."""
    return dict.fromkeys(("config", *AXES, "seed", "labels", "precision")) | {"assignments": ()} | given


def trained(**given: Any) -> Experiment:
    return one(options(**given), discover(["shipping"]))


def compared(**given: Any) -> list[Experiment]:
    return grid(discover(["shipping"]).registry, options(**given))


def test_recipes_are_listed(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dvgen("-p", "shipping", "recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "SUMMARY", "PLUGIN"]
    assert next(line.split() for line in lines if line.startswith("small")) == ["small", "for", "a", "test", "shipping"]
    assert dvgen("-p", "shipping", "recipes", "--json") == 0
    found = json.loads(capsys.readouterr().out)["recipes"]
    assert sorted(row["name"] for row in found) == sorted([*NAMES, "small"])
    assert next(row for row in found if row["name"] == "small")["plugin"] == "shipping"


def test_a_recipe_is_described(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SMALL.replace("[data]", "note = 'for a test'\nclasses = 7\n\n[recipe.published]\ntokenizer = 1000\n\n[data]")
    (shipped / "recipes" / "small.toml").write_text(f"labels = true\n{text}\n[adversarial]\nweight = 0.5\n")
    assert dvgen("-p", "shipping", "recipes", "small", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    counts = document["parameters"]
    whole = sum(counts["quantizers"].values()) + counts["encoder"] + counts["decoder"]
    assert counts["tokenizer"] == whole
    assert document["published"] == {"tokenizer": {"published": 1000, "ours": whole, "difference": whole / 1000 - 1}}
    assert (document["codes"], document["bits"], document["compression"]) == (16, 64.0, 3 * 16 * 16 * 8 / 64)
    assert document["experiment"]["train"]["tokenizer"]["budget"] == "steps:77"
    assert dvgen("-p", "shipping", "recipes", "small") == 0
    text = capsys.readouterr().out
    for told in (
        "small: for a test", "source: a test", "note: for a test", f"{counts['encoder']:,}", f"{whole / 1000 - 1:+.2%}",
        "codes 4x4 of 16", "16 codes, 64 bits: 96.0 times fewer", "steps:77", "patchgan", "hinge", "weight 0.5", "(7)",
    ):  # fmt: skip
        assert told in text, told


def test_the_file_of_a_recipe_is_an_experiment_that_can_be_changed(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dvgen("-p", "shipping", "recipes", "small", "--toml") == 0
    text = capsys.readouterr().out
    assert text == SMALL
    Path("mine.toml").write_text(text)
    assert trained(config=Path("mine.toml")) == trained(recipe="small")
    assert dvgen("recipes", "--toml") == 2
    assert "--toml" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_recipe_and_a_file_are_not_mixed(shipped: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    Path("mine.toml").write_text(SMALL)
    assert dvgen("-p", "shipping", command, "--recipe", "small", "--config", "mine.toml") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dvgen: --recipe with --config mine.toml")


def test_an_unknown_recipe_is_told_with_what_is_near(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["recipes", "smal"], ["train", "--recipe", "smal"], ["compare", "--recipe", "small,smal"]):
        assert dvgen("-p", "shipping", *command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "no recipe named 'smal' (did you mean 'small'?)" in line


def test_a_recipe_listed_twice_or_listed_where_one_is_wanted_is_refused(
    shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dvgen("-p", "shipping", "compare", "--recipe", "small,small") == 2
    assert "--recipe: 'small' is listed twice" in capsys.readouterr().err
    assert dvgen("-p", "shipping", "train", "--recipe", "small,vqvae2-tiny") == 2
    assert "one at a time here" in capsys.readouterr().err
    assert dvgen("-p", "shipping", "train", "--resume", "x", "--recipe", "small") == 2
    assert "--resume with --recipe" in capsys.readouterr().err


BROKEN = {
    "none": (None, "cannot be read: FileNotFoundError"),
    "syntax": ("[recipe", "not TOML"),
    "bytes": ("source = '\udc80'", "cannot be read: UnicodeDecodeError"),
    "header": (SMALL.replace("[recipe]", "[other]"), "recipe.source: missing"),
    "key": (SMALL.replace("source =", "sauce ="), "recipe.sauce: unknown key (did you mean 'source'?)"),
    "shape": (SMALL.replace("[3, 16, 16]", "[3]"), "recipe.shape"),
    "published": (SMALL.replace("[data]", "[recipe.published]\ntokenizer = -1\n[data]"), "recipe.published.tokenizer"),
    "component": (SMALL.replace('"vq"', '"vqq"'), "no quantizer named 'vqq'"),
    "field": (SMALL.replace("num_codes", "num_cods"), "quantizer.num_cods: unknown key (did you mean 'num_codes'?)"),
    "table": (f"{SMALL}\n[trian]\n", "trian: unknown key (did you mean 'train'?)"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_recipe_names_its_plugin_and_file_in_every_line(
    shipped: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    text, told = BROKEN[fault]
    file = shipped / "recipes" / "small.toml"
    file.unlink() if text is None else file.write_bytes(text.encode(errors="surrogateescape"))
    for command in (["recipes", "small"], ["train", "--recipe", "small"], ["compare", "--recipe", "small"]):
        assert dvgen("-p", "shipping", *command) == 5
        lines = capsys.readouterr().err.splitlines()
        place = "dvgen: recipe 'small' of plugin 'shipping' (not installed), shipping:recipes/small.toml: "
        assert all(line.startswith(place) for line in lines)
        assert any(told in line for line in lines)
    assert dvgen("-p", "shipping", "recipes") == 0  # the list does not need the file


def test_a_recipe_whose_parts_do_not_fit_is_the_plugins_fault(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shipped / "recipes" / "small.toml").write_text(SMALL.replace("[3, 16, 16]", "[3, 17, 17]"))
    assert dvgen("-p", "shipping", "recipes", "small") == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "plugin 'shipping'" in line
    assert "encoder.downsample" in line


def test_options_apply_on_top_of_a_recipe(shipped: Path, tmp_path: Path) -> None:
    """A component that stands in the recipe keeps its fields, another one starts from its defaults; budgets stay."""
    plain = trained(recipe="small")
    assert (plain.quantizer[0].fields["num_codes"], plain.train.tokenizer.budget) == (16, "steps:77")
    changed = trained(
        recipe="small", data=f"folder:{tmp_path}", quantizer="gumbel", prior="gpt", seed=3, tokenizer_budget="steps:5",
        assignments=("prior.layers=2",),
    )  # fmt: skip
    assert (changed.data.location, changed.data.fields["size"]) == (str(tmp_path), 16)
    assert changed.quantizer[0].fields["num_codes"] != 16
    assert (changed.prior[0].fields["dim"], changed.prior[0].fields["layers"]) == (16, 2)
    assert (changed.seed, changed.train.tokenizer.budget) == (3, "steps:5")


def test_recipes_are_the_first_axis_of_a_grid_and_all_else_applies_to_each(shipped: Path) -> None:
    found = compared(recipe="small,vqvae2-tiny", prior="pixelsnail,gpt", data="shapes", seed=4, budget="steps:9")
    assert [(e.encoder.use, e.prior_label) for e in found] == [
        ("vqvae", "pixelsnail"), ("vqvae", "gpt"), ("vqvae2", "pixelsnail"), ("vqvae2", "gpt")
    ]  # fmt: skip
    assert {(e.data.use, e.seed, e.train.prior.budget) for e in found} == {("shapes", 4, "steps:9")}
    assert [e.train.tokenizer.budget for e in found[::2]] == ["steps:77", "steps:1500"]
    assert [e.prior[0].fields.get("dim") for e in found[:2]] != [16, 16]
    assert found[1].prior[0].fields["dim"] == 16  # gpt as in the recipe; pixelsnail and the other recipe's gpt from defaults
    assert found[3].prior[0].fields["dim"] != 16
    assert len({json.dumps(tokenizer_config(e)) for e in found}) == 2


def test_a_prior_for_every_level_replaces_those_of_single_levels(shipped: Path) -> None:
    by_level = 'use = "gpt"\nlevel = "codes"'
    (shipped / "recipes" / "small.toml").write_text(SMALL.replace('use = "gpt"', by_level))
    assert trained(recipe="small").prior_label == "codes=gpt"
    assert trained(recipe="small", prior="codes=gpt").prior[0].fields["dim"] == 16
    assert trained(recipe="small", prior="pixelsnail").prior_label == "pixelsnail"


def test_a_recipe_on_files_says_what_to_give_when_they_are_not_there(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dvgen("-p", "shipping", "train", "--recipe", "small", "--accelerator", "cpu") == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dvgen: folder: no folder data/folder; expected one that holds images")
    assert list(Path().iterdir()) == []


def test_a_name_starts_a_game_and_none_ends_it(shipped: Path) -> None:
    """The grid of "the same network with and without": two tokenizers that differ in nothing else."""
    without, patchgan = compared(recipe="small", discriminator="none,patchgan")
    assert without.adversarial is None
    assert patchgan.adversarial is not None
    assert (patchgan.adversarial.discriminator.use, patchgan.adversarial.loss.use) == ("patchgan", "hinge")
    assert table_of(without) == {name: table for name, table in table_of(patchgan).items() if name != "adversarial"}
    assert tokenizer_config(without) != tokenizer_config(patchgan)
    with_game = f"{SMALL}\n[adversarial]\nweight = 0.25\n[adversarial.discriminator]\nuse = 'patchgan'\nlayers = 2\n"
    (shipped / "recipes" / "small.toml").write_text(with_game)
    none, kept = compared(recipe="small", discriminator="none,patchgan")
    assert none.adversarial is None
    assert kept == trained(recipe="small")
    assert kept.adversarial is not None
    assert (kept.adversarial.weight, kept.adversarial.discriminator.fields["layers"]) == (0.25, 2)


def test_a_field_of_a_game_begins_none(shipped: Path) -> None:
    """Where nobody spoke of a game it is a fault; where it was taken away, beside others that have it, it means nothing."""
    with pytest.raises(ConfigError, match=r"adversarial\.weight=1.*--discriminator NAME begins one"):
        compared(recipe="small", assignments=("adversarial.weight=1",))
    without, game = compared(recipe="small", discriminator="none,patchgan", assignments=("adversarial.weight=1",))
    assert without.adversarial is None
    assert game.adversarial is not None
    assert game.adversarial.weight == 1
