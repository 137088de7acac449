"""Rules K1, K2 and K6 to K9: of a plugin's package, and of what every component says about itself."""

import json
import subprocess
import sys
from typing import Any

from torch import nn

from dvgen.checking.config_rules import CONFIG_CAUSES, is_class
from dvgen.checking.place import BrokenAt, package_of, place_of_class, place_of_error
from dvgen.checking.targets import Checked
from dvgen.contracts.law import law
from dvgen.contracts.model_training import TINY
from dvgen.contracts.waivers import waivers_of
from dvgen.errors import ConfigError, PluginError
from dvgen.interfaces.model import Model
from dvgen.recipes import read_recipe

LONGEST = 100
"""Characters of a summary: more do not fit a line of `dvgen plugins`."""

_PROBE = "import sys; sys.path[:] = sys.argv[2:]; from dvgen.checking.listing_probe import probe; probe(sys.argv[1])"


def is_model(one: Checked) -> bool:
    """Whether the component has weights, so that it has to offer `tiny()`; feature extractors are as large as they are."""
    return one.has_class and issubclass(one.load(), Model) and one.kind != "features"


def waives(one: Checked) -> bool:
    """Whether the component waives laws of its contract."""
    return one.has_class and one.load().waived_laws != {}


def is_recipe(one: Checked) -> bool:
    """Whether the component is a recipe."""
    return one.kind == "recipe"


@law("K1", "listing the plugin imports no torch, so that `dvgen plugins` answers at once", once=True)
def listing_without_torch(one: Checked, _: Any) -> None:
    line = [sys.executable, "-c", _PROBE, one.module, *filter(None, sys.path)]
    done = subprocess.run(line, capture_output=True, text=True)  # noqa: S603 - it is this Python
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise BrokenAt(f"{one.module} cannot be listed in a process of its own: {last}", None)
    frames = json.loads(done.stdout.splitlines()[-1])["frames"]
    if frames:
        place = package_of(one.module).innermost([(file, line) for file, line in frames])
        raise BrokenAt(f"importing {one.module} imports torch", place)


@law("K2", "the target can be imported, and is a class of its kind that defines all that its interface asks for",
     applies=is_class, once=True)  # fmt: skip
def target_is_of_its_kind(one: Checked, _: Any) -> None:
    try:
        one.load()
    except PluginError as error:
        place = place_of_error(error, package_of(one.target)) or _place_of_target(one.target)
        raise BrokenAt(str(error), place) from error


@law("K6", f"`tiny()` gives a Config that builds, with fewer than {TINY} parameters to train", applies=is_model, once=True)
def tiny_builds(one: Checked, _: Any) -> None:
    from dvgen.checking.subjects import built  # it needs what this module says

    cls = one.load()
    config = cls.tiny()
    if not isinstance(config, cls.Config):
        raise BrokenAt(f"tiny() is a {type(config).__name__}, expected {cls.__name__}.Config", place_of_class(cls))
    model: nn.Module = built(one)
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if count >= TINY:
        raise BrokenAt(f"tiny() has {count} parameters to train, expected fewer than {TINY}", place_of_class(cls))


@law("K7", f"the summary is one line of at most {LONGEST} characters", once=True)
def summary_is_a_line(one: Checked, _: Any) -> None:
    summary = one.supplied.component.summary
    if not summary.strip() or len(summary) > LONGEST:
        raise BrokenAt(f"the summary has {len(summary.strip())} characters: {summary!r}", None)


@law("K8", "the recipe can be read, its fields are right, and its models can be assembled", applies=is_recipe, once=True)
def recipe_assembles(one: Checked, _: Any) -> None:
    from dvgen.assembly import checked_experiment
    from dvgen.training.outline import outline

    recipe = read_recipe(one.registry, one.name)
    try:
        outline(one.registry, checked_experiment(one.registry, recipe.table), recipe.shape, recipe.classes)
    except ConfigError as error:
        raise recipe.fault(error) from None


@law("K9", "waived laws exist and give a reason", applies=waives, once=True)
def waivers_give_reasons(one: Checked, _: Any) -> None:
    cls = one.load()
    try:
        waivers_of(cls)
    except ConfigError as error:
        raise BrokenAt(str(error), place_of_class(cls, "waived_laws")) from None


def _place_of_target(target: str) -> Any:
    """Where a class is that is not of its kind; None where there is none."""
    module, _, name = target.partition(":")
    found = getattr(sys.modules.get(module), name, None)
    return place_of_class(found) if isinstance(found, type) else None


PACKAGE_CAUSES = CONFIG_CAUSES | {
    "listing_without_torch": "The plugin's __init__.py, or a module that it imports, imports torch; let it only list Component"
    " records, and leave torch to the module that `target` names.",
    "target_is_of_its_kind": "A typing error in `target`, an import of something that is not installed, or a class that"
    " does not derive from its interface.",
    "tiny_builds": "An error in your own code, in `__init__` or on the first call of what was built: mend the line that is"
    " named. Or `tiny()` returns fields that do not fit, or is not overridden while the default config is large.",
    "summary_is_a_line": "The fourth argument of Component; say in a few words what it is, and leave the rest to the docstring"
    " of the class.",
    "waivers_give_reasons": 'A waiver is written as "P23 revival": the name of the law and of its check, "name" and "check" in'
    " `dvgen check --json`; the reason is a sentence for those who use the component. Laws of another kind cannot be waived.",
    "recipe_assembles": "A name that no installed plugin supplies, a misspelt field, or sizes that do not fit each other;"
    " try `dvgen recipes NAME`.",
}
"""What usually breaks these rules, and what to do, by the name of the check."""
