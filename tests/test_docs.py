"""Documentation that cannot lie: what it lists is what there is."""

import importlib
import inspect
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest
from doc_pages import ROOT, anywhere, marked, named, read, rows, section

import dvgen.blocks
import dvgen.interfaces
from dvgen import errors, experiment, hookspecs
from dvgen import registry as kinds
from dvgen.assembly import check_components
from dvgen.cli import INTERRUPTED
from dvgen.contracts import components, quantizer
from dvgen.explaining.hooks_and_errors import exit_codes
from dvgen.registry import Registry

INTERFACES = read("docs/interfaces.md")
SOURCES = [ROOT / "dvgen", ROOT / "plugins"]


def modules(package: Any) -> list[Any]:
    return [importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]


def public(module: Any, wanted: Any) -> list[Any]:
    """What a module itself defines, under a name that is public."""
    found = [value for name, value in vars(module).items() if wanted(value) and not name.startswith("_")]
    return [value for value in found if value.__module__ == module.__name__]


def interfaces() -> list[type]:
    return [cls for module in modules(dvgen.interfaces) for cls in public(module, inspect.isclass)]


def plain_signature(function: Any) -> str:
    """name(a, b=None), without self, cls and types."""
    signature = inspect.signature(function)
    kept = [p.replace(annotation=p.empty) for name, p in signature.parameters.items() if name not in ("self", "cls")]
    return f"{function.__name__}{inspect.Signature(kept)}"


def entries(cls: type) -> dict[str, Any]:
    """How each public method (as its signature) and property (as its name) of a class itself is written, and what it is."""
    own = {name: getattr(cls, name) for name in vars(cls) if not name.startswith("_")}
    told = {plain_signature(value): value for value in own.values() if inspect.isroutine(value)}
    return told | {name: value for name, value in own.items() if isinstance(value, property)}


@pytest.mark.parametrize("cls", interfaces(), ids=lambda cls: cls.__name__)
def test_every_interface_has_a_section_with_its_methods_and_fields(cls):
    text = section(INTERFACES, cls.__name__)
    wanted = {name for name in inspect.get_annotations(cls) if not name.startswith("_")} | entries(cls).keys()
    assert wanted - named(text) == set()
    abstract = {name for name, value in entries(cls).items() if getattr(value, "__isabstractmethod__", False)}
    assert {name for name in entries(cls) if f"`{name}` (abstract" in text} == abstract


def test_every_function_and_constant_of_the_interfaces_is_named():
    said = named(INTERFACES)
    for module in modules(dvgen.interfaces):
        assert {plain_signature(function) for function in public(module, inspect.isfunction)} - said == set()
        constants = {
            name for name, value in vars(module).items() if re.fullmatch("[A-Z][A-Z_]*", name) and not inspect.isclass(value)
        }
        assert constants - said == set()


def test_every_hook_has_a_section_with_its_exact_arguments():
    hooks = [value for name, value in vars(hookspecs).items() if name.startswith("dvgen_")]
    assert {f"`{plain_signature(hook)}`" for hook in hooks} == set(re.findall(r"^### (`.*`)$", INTERFACES, re.MULTILINE))
    assert {f.name for f in attrs.fields(hookspecs.Run)} <= named(section(INTERFACES, "`dvgen_run_finished(run, results)`"))


def test_every_kind_and_every_module_of_the_blocks_is_listed():
    assert tuple(row[0].strip("`") for row in rows(section(INTERFACES, "Kinds"))[1:]) == kinds.KINDS
    names = {module.__name__ for module in modules(dvgen.blocks)}
    assert {row[0].strip("`") for row in rows(section(INTERFACES, "Blocks"))[1:]} == names


def test_the_readme_lists_the_components_that_there_are(registry: Registry):
    """Left: what the table should hold."""
    own = [s.component for s in registry.supplied if s.distribution.startswith("dvgen ")]
    expected = sorted(f"| {c.kind} | `{c.name}` | {c.summary} |" for c in own)
    text = section(read("README.md"), "What you get")
    assert expected == [line for line in text.splitlines() if line.startswith("|")][2:]


def error_classes() -> list[type[errors.DvgenError]]:
    return [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.DvgenError)]


def test_every_exit_code_is_listed():
    codes = {0, INTERRUPTED, *(error.exit_code for error in error_classes())}
    assert {int(row[0]) for row in rows(section(read("README.md"), "Exit codes"))[1:]} == codes


def test_every_class_of_errors_is_explained_with_its_exit_code():
    """By `dvgen explain errors`, which the page of symptoms names, from a docstring of one line that names the code."""
    told = {code.error: code for code in exit_codes()}
    for error in error_classes():
        assert told[error.__name__].code == error.exit_code
        assert re.fullmatch(rf".+ \(exit code {error.exit_code}\)\.", error.__doc__ or ""), error.__name__
    assert "dvgen explain errors" in named(read("docs/troubleshooting.md"))


def test_every_environment_variable_is_told():
    sources = [path.read_text() for folder in SOURCES for path in folder.rglob("*.py")]
    variables = set(re.findall(r"[\"'](DVGEN_[A-Z_]+)[\"']", "\n".join(sources)))
    told = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert set(re.findall(r"DVGEN_[A-Z_]+", told)) == variables


def defaults(title: str) -> dict[str, Any]:
    return {row[0].strip("`"): row[1] for row in rows(anywhere(title))[1:]}


def test_every_field_of_an_experiment_is_told_with_its_default():
    table = experiment.table_of(experiment.Experiment())
    told = defaults("Fields")
    assert list(told) == [f.name for f in attrs.fields(experiment.Experiment)]
    for name, value in table.items():
        use = value[0]["use"] if isinstance(value, list) else value.get("use", "see below") if isinstance(value, dict) else None
        expected = str(value).lower() if use is None else use
        assert told[name].strip("`") == expected
    told = defaults("`[adversarial]`")
    assert list(told) == [f.name for f in attrs.fields(experiment.Adversarial)]
    for name, value in experiment.table_of(experiment.Experiment(adversarial=experiment.Adversarial()))["adversarial"].items():
        assert told[name].strip("`") == (value["use"] if isinstance(value, dict) else str(value).lower())
    choices = {"data": experiment.DataChoice, "loss": experiment.LossChoice, "prior": experiment.PriorChoice}
    own = {f"{box}.{f.name}" for box, choice in choices.items() for f in attrs.fields(choice)}
    told = defaults("Components")
    assert {name for name in own if name.rpartition(".")[2] not in ("use", "fields")} | {"use"} == set(told)
    assert told["loss.weight"] == f"`{experiment.LossChoice(use='mse').weight}`"


def literal(cell: str) -> Any:
    return tomllib.loads(f"value = {cell.strip('`')}")["value"]


def test_every_field_of_training_and_evaluation_is_told_with_its_default():
    table = experiment.table_of(experiment.Experiment())
    training = rows(anywhere("`[train.tokenizer]` and `[train.prior]`"))[1:]
    for column, stage in ((1, "tokenizer"), (2, "prior")):
        assert {row[0].strip("`"): literal(row[column]) for row in training} == table["train"][stage]
    evaluation = rows(anywhere("`[evaluate]`"))[1:]
    assert {row[0].strip("`"): literal(row[1]) for row in evaluation} == table["evaluate"]


def test_the_example_file_is_read_and_names_every_field(registry: Registry, tmp_path: Path):
    path = tmp_path / "experiment.toml"
    path.write_text(marked("docs/experiments.md", "example: experiment.toml"))
    found = experiment.read_experiment(path)
    check_components(registry, found)
    written = tomllib.loads(path.read_text())
    table = experiment.table_of(experiment.Experiment())
    assert written.keys() == {*table, "adversarial"}
    game = experiment.table_of(experiment.Experiment(adversarial=experiment.Adversarial(lr=1e-4)))["adversarial"]
    assert written["adversarial"].keys() == game.keys()
    for name in ("evaluate", "train"):
        assert written[name].keys() == table[name].keys()
    assert all(written["train"][stage].keys() == table["train"][stage].keys() for stage in ("tokenizer", "prior"))


def test_every_law_of_the_other_contracts_is_told():
    told = [tuple(row[:2]) for row in rows(section(INTERFACES, "The contracts of the other kinds"))]
    laws = {(law.name, law.rule) for own in components.LAWS.values() for law in own}
    assert laws <= set(told)
    assert f"{len({name for name, _ in laws})} properties in {len(laws)} laws" in INTERFACES


def test_every_law_of_the_contract_of_quantizers_is_told():
    told = rows(section(INTERFACES, "The contract of quantizers"))
    laws = {(law.name, f"{law.rule}{' (slow)' if law.slow else ''}") for law in quantizer.LAWS}
    assert {tuple(row[:2]) for row in told} >= laws
