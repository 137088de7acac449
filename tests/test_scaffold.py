"""What `dvgen new` writes works, whatever the kind and the name, and is written whole or not at all."""

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from dvgen.assembly import checked_experiment
from dvgen.discovery import discover
from dvgen.errors import ConfigError
from dvgen.interfaces.codes import Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.recipes import read_recipe
from dvgen.registry import KINDS, Registry
from dvgen.scaffold.kinds import OUTLINES, TOGETHER
from dvgen.scaffold.names import LONGEST, Names, names_for
from dvgen.scaffold.writing import rendered, write_plugin

MADE = {kind: f"scaffold-{kind}" for kind in OUTLINES}
PACKAGES = {kind: f"dvgen_scaffold_{kind.replace('-', '_')}" for kind in OUTLINES}
IMAGES = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    """A plugin of every kind, where Python finds its package: kind to folder."""
    into = tmp_path_factory.mktemp("plugins")
    written = {kind: write_plugin(Names(kind, name), into) for kind, name in MADE.items()}
    with pytest.MonkeyPatch.context() as patch:
        for folder in written.values():
            patch.syspath_prepend(folder)
        yield written


@pytest.fixture(scope="module")
def found(folders: dict[str, Path]) -> Registry:
    """Every component, those of the new plugins included."""
    return discover(list(PACKAGES.values())).registry


def own_tests(folder: Path) -> ModuleType:
    """The module of a new plugin's tests."""
    spec = importlib.util.spec_from_file_location(f"tests_of_{folder.name}", folder / "tests" / "test_contract.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny(found: Registry, kind: str, of: str | None = None, **sizes: Any) -> Any:
    """The component of the plugin of a kind, as small as it says it can be."""
    cls = found.load(kind, MADE[of or kind])
    return cls(cls.tiny() if hasattr(cls, "tiny") else cls.Config(), **sizes)


def test_every_kind_of_component_can_be_begun():
    assert set(OUTLINES) | set(TOGETHER) == set(KINDS)
    assert set(TOGETHER.values()) <= set(OUTLINES)


def test_every_template_is_of_a_kind_or_shared():
    folder = Path(sys.modules["dvgen.scaffold"].__path__[0]) / "templates"
    assert {path.name for path in folder.iterdir()} == {"shared", *OUTLINES}
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".j2"}


@pytest.mark.parametrize("kind", OUTLINES)
def test_the_files_are_those_that_are_promised(kind: str):
    package = PACKAGES[kind]
    modules = {f"{package}/{part.module}.py" for part in OUTLINES[kind].parts if part.module}
    own = modules or {f"{package}/recipes/{MADE[kind]}.toml"}
    shared = {"README.md", "pyproject.toml", "tests/test_contract.py", f"{package}/__init__.py", f"{package}/py.typed"}
    assert set(rendered(Names(kind, MADE[kind]))) == own | shared


def test_the_new_plugins_are_admitted_and_supply_what_they_are_called(found: Registry):
    assert found.failures == []
    supplied = {(s.component.kind, s.component.name, s.plugin) for s in found.supplied if s.plugin in PACKAGES.values()}
    promised = {(part.kind, MADE[kind], PACKAGES[kind]) for kind, outline in OUTLINES.items() for part in outline.parts}
    assert supplied == promised


def test_the_packages_import_no_torch(folders: dict[str, Path]):
    code = f"import sys, importlib; [importlib.import_module(name).dvgen_components() for name in {list(PACKAGES.values())}]"
    path = f"import sys; sys.path += {[str(folder) for folder in folders.values()]}"
    run = f"{path}; {code}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", run], check=True)


@pytest.mark.parametrize("kind", [kind for kind in OUTLINES if kind != "recipe"])
def test_the_tests_are_those_of_the_contract_and_the_others_pass(kind: str, folders: dict[str, Path], found: Registry):
    """Those of the contract take too long here; tests/test_new_command.py runs them."""
    members = vars(own_tests(folders[kind]))
    (contract,) = [value for name, value in members.items() if name.startswith("Test")]
    assert sum(name.startswith("test_") for name in vars(contract)) >= 9
    for name, value in members.items():
        if name.startswith("test_"):
            value()


def test_encoder_and_decoder_fit(found: Registry):
    encoder = tiny(found, "encoder", channels=3, dims=(5,))
    decoder = tiny(found, "decoder", of="encoder", channels=3, dims=(5,))
    features = encoder(IMAGES)
    assert features[0].shape == (2, 5, *encoder.grids((16, 16))[0])
    assert decoder(features).shape == IMAGES.shape


def test_the_quantizer_finds_the_nearest_code(found: Registry):
    torch.manual_seed(0)
    quantizer = tiny(found, "quantizer")
    z = torch.randn(2, quantizer.dim, 4, 4)
    every = torch.cdist(z.movedim(1, -1).double().reshape(-1, quantizer.dim), quantizer.codebook.detach().double())
    assert torch.equal(quantizer(z).codes[0].flatten(), every.argmin(dim=1))


def test_the_prior_is_a_distribution(found: Registry):
    """Summed over all code maps, as in float64."""
    level, shape = Level("codes", (2, 2), 3), ContextShape((Level("top", (1, 2), 2),), 2)
    prior = tiny(found, "prior", levels=(level,), context=shape).double()
    maps = torch.tensor(list(itertools.product(range(3), repeat=4))).reshape(-1, 2, 2)
    context = Context(len(maps), (torch.ones(len(maps), 1, 2, dtype=torch.int64),), torch.ones(len(maps), dtype=torch.int64))
    total = prior((maps,), context)[0].flatten(1).sum(dim=1).exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64))


def test_the_source_draws_as_often_as_it_says(found: Registry):
    """10,000 codes: their shares are within five standard deviations of the probabilities."""
    cls = found.load("code-source", MADE["code-source"])
    source = cls(cls.Config(grid=(4,), num_codes=3))
    (codes,) = source.sample(2500, seed=1)
    expected = torch.tensor([6, 3, 2], dtype=torch.float64) / 11
    shares = codes.flatten().bincount(minlength=3) / 10_000
    assert ((shares - expected).abs() < 5 * (expected * (1 - expected) / 10_000).sqrt()).all()
    assert source.entropy == pytest.approx(-4 * float((expected * expected.log()).sum()))


@pytest.mark.parametrize(("kind", "shape"), [("discriminator", (2, 1, 4, 4)), ("features", (2, 4))])
def test_what_takes_images_makes_what_it_says(kind: str, shape: tuple[int, ...], found: Registry):
    assert tiny(found, kind, channels=3)(IMAGES).shape == shape


def test_the_recipe_is_an_experiment(found: Registry):
    recipe = read_recipe(found, MADE["recipe"])
    assert recipe.shape == (3, 32, 32)
    checked_experiment(found, dict(recipe.table))


@pytest.mark.parametrize("name", ["x", "x" * LONGEST, "ab-" * 10 + "c"])
def test_style_does_not_depend_on_the_length_of_the_name(name: str, tmp_path: Path):
    """With long names lines must not be too long, with short ones none may be broken needlessly."""
    for kind in OUTLINES:
        (tmp_path / kind).mkdir()
        write_plugin(Names(kind, name), tmp_path / kind)
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["", "My-vq", "1st", "my_vq", "my--vq", "my-", "../my", "my vq", "x" * (LONGEST + 1)])
def test_a_name_that_cannot_be_one_is_refused(name: str, registry: Registry):
    with pytest.raises(ConfigError, match=r"cannot be a name: expected at most 32 small letters.* such as my-vq"):
        names_for(registry, "quantizer", name)


@pytest.mark.parametrize(
    ("kind", "name", "holder"),
    [
        ("quantizer", "vq", "plugin 'vqvae' of dvgen .* supplies the quantizer 'vq'"),
        ("encoder", "vqgan", "supplies the encoder 'vqgan'"),
        ("decoder", "vqgan", "supplies the encoder 'vqgan'"),
        ("loss", "gpt", r"Python finds a package dvgen_gpt at .*__init__\.py"),
        ("prior", "autoregressive", "the class would be AutoregressivePrior"),
        ("loss", "test", "pytest takes the class TestLoss for tests"),
    ],
)
def test_a_name_that_is_taken_is_refused_with_who_has_it(kind: str, name: str, holder: str, registry: Registry):
    with pytest.raises(ConfigError, match=f"the name '{name}' is taken: .*{holder}.*; choose another name"):
        names_for(registry, kind, name)


def test_a_kind_that_is_not_known_is_refused_with_those_that_are(registry: Registry):
    with pytest.raises(ConfigError, match=r"no kind 'quantiser' \(did you mean 'quantizer'\?\); known: encoder, .*, recipe"):
        names_for(registry, "quantiser", "my-vq")


def test_kind_and_name_the_wrong_way_round_are_told_apart(registry: Registry):
    with pytest.raises(ConfigError, match=r"no kind 'my-vq'; the kind comes first: dvgen new quantizer my-vq; known: "):
        names_for(registry, "my-vq", "quantizer")


@pytest.mark.parametrize("name", ["class", "torch", "dvgen", "none", "py", "int"])
def test_words_of_python_and_names_of_packages_are_good_names(name: str, registry: Registry):
    """Everything that is called after a name has something before it or behind it."""
    names = names_for(registry, "loss", name)
    namespace: dict[str, Any] = {}
    exec(rendered(names)[f"{names.package}/loss.py"], namespace)
    assert issubclass(namespace[f"{names.camel}Loss"], torch.nn.Module)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_nothing_is_overwritten(make: Any, tmp_path: Path):
    make(tmp_path / "dvgen-my-vq")
    with pytest.raises(ConfigError, match="dvgen-my-vq exists already, and dvgen new overwrites nothing"):
        write_plugin(Names("quantizer", "my-vq"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dvgen-my-vq"]
    assert not list((tmp_path / "dvgen-my-vq").glob("*"))


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--into .*missing: not a folder; make it first"):
        write_plugin(Names("quantizer", "my-vq"), tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("failure", "told"), [(OSError(28, "No space left"), ConfigError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_plugin_is_not_half_written(failure: BaseException, told: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever fails, after three files: nothing is left behind."""
    written: list[Path] = []
    write = Path.write_text

    def failing(path: Path, *args: Any, **kwargs: Any) -> int:
        written.append(path)
        if len(written) > 3:
            raise failure
        return write(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(told):
        write_plugin(Names("quantizer", "my-vq"), tmp_path)
    assert len(written) == 4
    assert list(tmp_path.iterdir()) == []
