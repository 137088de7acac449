"""Whatever is not documented is found: one thing of each kind is planted, and the test that is responsible for it fails."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import attrs
import click
import pytest
import test_docs
import test_docs_commands
import test_explain_config_fields
from attrs import frozen
from torch import Tensor

import dvgen.blocks
import dvgen.interfaces.codes
import dvgen.registry
from dvgen import errors, experiment, hookspecs
from dvgen.cli import group
from dvgen.contracts import components, quantizer
from dvgen.interfaces.loss import Loss
from dvgen.registry import Component, Registry, Supplied

Patch = pytest.MonkeyPatch


@final
class Undocumented(Loss):
    """A loss of which nobody is told what its field means."""

    @frozen(kw_only=True)
    class Config:
        """Nothing is said here."""

        planted: float = 1.0

    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        """Nothing."""
        return reconstructed.sum()


def at_home(thing: Any, module: Any) -> Any:
    """A thing that says it was defined in a module."""
    thing.__module__ = module.__name__
    return thing


def function(module: Any, name: str) -> Any:
    """A public function that nobody documents."""

    def planted(argument: int) -> int:
        """Planted."""
        return argument

    planted.__name__ = name
    return at_home(planted, module)


def wider(cls: type) -> type:
    """The same attrs class with a field more."""
    return attrs.make_class(
        cls.__name__, {"planted": attrs.field(default=1, type=int)}, bases=(cls,), frozen=True, kw_only=True
    )


def with_a_component(registry: Registry, kind: str, target: str) -> Registry:
    """The registry, and one component more that ships with dvgen."""
    component = Component(kind, "planted", target, "a summary")
    return Registry([*registry.supplied, Supplied(component, "planted", "dvgen 0.1.0")], [])


def an_interface(patch: Patch) -> None:
    patch.setattr(dvgen.interfaces.codes, "Planted", at_home(type("Planted", (), {}), dvgen.interfaces.codes), raising=False)
    for cls in test_docs.interfaces():
        test_docs.test_every_interface_has_a_section_with_its_methods_and_fields(cls)


def a_method(patch: Patch) -> None:
    patch.setattr(Loss, "planted", function(dvgen.interfaces.codes, "planted"), raising=False)
    test_docs.test_every_interface_has_a_section_with_its_methods_and_fields(Loss)


def a_function_of_the_interfaces(patch: Patch) -> None:
    patch.setattr(dvgen.interfaces.codes, "planted", function(dvgen.interfaces.codes, "planted"), raising=False)
    test_docs.test_every_function_and_constant_of_the_interfaces_is_named()


def a_constant_of_the_interfaces(patch: Patch) -> None:
    patch.setattr(dvgen.interfaces.codes, "PLANTED", 1, raising=False)
    test_docs.test_every_function_and_constant_of_the_interfaces_is_named()


def a_hook(patch: Patch) -> None:
    patch.setattr(hookspecs, "dvgen_planted", function(hookspecs, "dvgen_planted"), raising=False)
    test_docs.test_every_hook_has_a_section_with_its_exact_arguments()


def a_field_of_what_hooks_are_given(patch: Patch) -> None:
    patch.setattr(hookspecs, "Run", wider(hookspecs.Run))
    test_docs.test_every_hook_has_a_section_with_its_exact_arguments()


def a_kind(patch: Patch) -> None:
    patch.setattr(dvgen.registry, "KINDS", (*dvgen.registry.KINDS, "planted"))
    test_docs.test_every_kind_and_every_module_of_the_blocks_is_listed()


def an_exit_code(patch: Patch) -> None:
    patch.setattr(errors, "PlantedError", type("PlantedError", (errors.DvgenError,), {"exit_code": 99}), raising=False)
    test_docs.test_every_exit_code_is_listed()


def a_class_of_errors(patch: Patch) -> None:
    """With an exit code that there is, and no word of what it means."""
    patch.setattr(errors, "PlantedError", type("PlantedError", (errors.DvgenError,), {}), raising=False)
    test_docs.test_every_class_of_errors_is_explained_with_its_exit_code()


def a_field_in(table: str) -> Callable[[Patch], None]:
    """A field of an attrs class of dvgen.experiment."""

    def planted(patch: Patch) -> None:
        patch.setattr(experiment, table, wider(getattr(experiment, table)))
        test_docs.test_every_field_of_an_experiment_is_told_with_its_default()

    return planted


def a_field_of(table: str) -> Callable[[Patch], None]:
    """A field of the training of both stages, or of evaluation, as they are written out."""

    def planted(patch: Patch) -> None:
        whole = experiment.table_of

        def written(found: Any) -> Any:
            made = whole(found)
            for part in (made["train"]["tokenizer"], made["train"]["prior"]) if table == "train" else (made[table],):
                part["planted"] = 1
            return made

        patch.setattr(experiment, "table_of", written)
        test_docs.test_every_field_of_training_and_evaluation_is_told_with_its_default()

    return planted


def a_law_of_quantizers(patch: Patch) -> None:
    law = attrs.evolve(quantizer.LAWS[0], name="P99", rule="planted")
    patch.setattr(quantizer, "LAWS", (*quantizer.LAWS, law))
    test_docs.test_every_law_of_the_contract_of_quantizers_is_told()


def a_law_of_another_kind(patch: Patch) -> None:
    kind = next(iter(components.LAWS))
    law = attrs.evolve(components.LAWS[kind][0], name="R99", rule="planted")
    patch.setitem(components.LAWS, kind, (*components.LAWS[kind], law))
    test_docs.test_every_law_of_the_other_contracts_is_told()


def a_command(patch: Patch) -> None:
    planted = click.Command("planted", help="Does what nobody knows of.", callback=lambda: None)
    patch.setattr(group, "commands", dict(group.commands) | {"planted": planted})
    test_docs_commands.test_every_command_is_listed()


def a_command_without_help(patch: Patch) -> None:
    patch.setattr(group, "commands", dict(group.commands) | {"planted": click.Command("planted", callback=lambda: None)})
    test_docs_commands.test_every_command_says_in_its_help_what_it_does()


def an_option(patch: Patch) -> None:
    train = dict(test_docs_commands.every_command())["train"]
    patch.setattr(train, "params", [*train.params, click.Option(["--planted"])])
    test_docs_commands.test_every_option_says_what_it_is_for()


PLANTED = [
    an_interface,
    a_method,
    a_function_of_the_interfaces,
    a_constant_of_the_interfaces,
    a_hook,
    a_field_of_what_hooks_are_given,
    a_kind,
    an_exit_code,
    a_class_of_errors,
    *map(a_field_in, ("Experiment", "Adversarial", "PriorChoice")),
    *map(a_field_of, ("train", "evaluate")),
    a_law_of_quantizers,
    a_law_of_another_kind,
    a_command,
    a_command_without_help,
    an_option,
]


FOUND = re.compile("planted|99|not enough values to unpack", re.IGNORECASE)
"""What a message says that names the plant; the last of a section that is not there."""


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.__name__)
def test_what_nobody_documents_is_found(planted: Callable[[Patch], None], monkeypatch: Patch):
    """Without the plant the same test passes, as the file that it is of shows."""
    with pytest.raises((AssertionError, ValueError), match=FOUND):
        planted(monkeypatch)


def test_a_module_of_the_blocks_that_nobody_lists_is_found(tmp_path: Path, monkeypatch: Patch):
    (tmp_path / "planted.py").write_text('"""Planted."""\n')
    monkeypatch.setattr(dvgen.blocks, "__path__", [*dvgen.blocks.__path__, str(tmp_path)])
    try:
        with pytest.raises(AssertionError, match="planted"):
            test_docs.test_every_kind_and_every_module_of_the_blocks_is_listed()
    finally:
        sys.modules.pop("dvgen.blocks.planted", None)
        vars(dvgen.blocks).pop("planted", None)


def test_an_environment_variable_that_nobody_tells_is_found(tmp_path: Path, monkeypatch: Patch):
    (tmp_path / "planted.py").write_text('NAME = "DVGEN_PLANTED"\n')
    monkeypatch.setattr(test_docs, "SOURCES", [*test_docs.SOURCES, tmp_path])
    with pytest.raises(AssertionError, match="DVGEN_PLANTED"):
        test_docs.test_every_environment_variable_is_told()


def test_a_component_that_the_readme_does_not_list_is_found(registry: Registry):
    with pytest.raises(AssertionError, match="planted"):
        test_docs.test_the_readme_lists_the_components_that_there_are(with_a_component(registry, "loss", "planted:Planted"))


def test_a_field_of_a_component_without_help_is_found(registry: Registry):
    wider_registry = with_a_component(registry, "loss", f"{__name__}:Undocumented")
    with pytest.raises(AssertionError, match="planted"):
        test_explain_config_fields.test_every_field_has_help_a_type_and_a_default_that_prints(wider_registry, "loss", "planted")
