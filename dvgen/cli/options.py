"""Options that several commands share, and what they mean for an experiment."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from dvgen.assembly import checked_experiment, resolved
from dvgen.cli.every_command import F, say
from dvgen.config import override, read_toml
from dvgen.discovery import Plugins
from dvgen.errors import ConfigError
from dvgen.experiment import AUTO, PRECISIONS, Experiment, parse_data, table_of
from dvgen.recipes import Recipe, read_recipe
from dvgen.registry import Registry

_EXPERIMENT = (
    click.option(
        "--recipe", metavar="NAME", help="An experiment that a plugin ships (dvgen recipes); the options below override it."
    ),
    click.option("--config", type=click.Path(path_type=Path), help="An experiment file (TOML) in its stead."),
    click.option(
        "--data",
        metavar="NAME[:DIR]",
        help="Data set: shapes, mnist:DIR, folder:DIR, ...; or truth:SOURCE, codes of known probability.",
    ),
    click.option("--encoder", metavar="NAME", help="The encoder; its decoder must fit it."),
    click.option("--quantizer", metavar="NAME", help="One for all maps of the encoder, or coarse+fine."),
    click.option("--decoder", metavar="NAME", help="The decoder."),
    click.option("--loss", metavar="NAME", help="One loss, or several joined by +."),
    click.option("--discriminator", metavar="NAME", help="The opponent of an adversarial game, or none."),
    click.option("--prior", metavar="NAME", help="One prior for every level, or LEVEL=NAME+LEVEL=NAME."),
    click.option("--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Any field: --set prior.layers=8."),
    click.option("--seed", type=int, help="Of weights, orders and draws [default: 0]."),
    click.option("--labels/--no-labels", default=None, help="Condition the priors on class labels."),
    click.option("--tokenizer-budget", metavar="BUDGET", help="Training of stage one: steps:N, codes:N, flops:X or seconds:S."),
    click.option("--budget", metavar="BUDGET", help="Training of stage two: steps:N, codes:N, flops:X or seconds:S."),
    click.option("--precision", type=click.Choice(PRECISIONS), help="Of training [default: auto]."),
)
_ACCELERATOR = click.option(
    "--accelerator",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    help="What computes; auto takes the fastest there is.",
)
_HARDWARE = (
    _ACCELERATOR,
    click.option("--devices", default=1, show_default=True, help="Processes, one a device (DDP)."),
    click.option("--deterministic", is_flag=True, help="Bit-reproducible on a GPU too; slower."),
    click.option("--compile", is_flag=True, help="Compile models before training them; takes a minute or so each."),
)
FIDS = {"fid": "inception", "fid-pt": "inception-pt"}
"""Distances in the 2015 Inception features, by the protocol of torch-fidelity, which is called FID, and of pytorch-fid."""
BOXES = ("data", "encoder", "quantizer", "decoder", "loss", "discriminator", "prior")
BUDGETS = {"tokenizer_budget": "tokenizer", "budget": "prior"}
AXES = ("recipe", *BOXES, *BUDGETS)
"""The options that `dvgen compare` takes lists of."""


def metric_option(command: F) -> F:
    """Which distances must be measured."""
    text = "Distances that must be measured: fid, fid-pt, fd-FEATURES [default: all that data and weights allow]."
    return click.option("--metric", metavar="NAMES", help=text)(command)


def features_of(metrics: str) -> tuple[str, ...]:
    """The features that `--metric fid,fd-rand` names."""
    names = [name.strip() for name in metrics.split(",")]
    wrong = [name for name in names if name not in FIDS and not re.fullmatch("fd-.+", name)]
    if wrong:
        raise ConfigError(f"--metric {wrong[0]!r}: expected {', '.join(FIDS)} or fd-FEATURES, such as fd-rand (dvgen plugins)")
    return tuple(dict.fromkeys(FIDS.get(name, name.removeprefix("fd-")) for name in names))


def say_precision(given: Experiment, resolved: Experiment) -> None:
    """Tell a person what "auto" became."""
    if given.train.precision == AUTO:
        chosen = resolved.train.precision
        reason, other = (
            ("this device multiplies bfloat16 natively", "32-true for float32")
            if chosen == "bf16-mixed"
            else ("this device has no fast bfloat16", "bf16-mixed for bfloat16 all the same")
        )
        say(f"precision: {chosen} ({reason}; --precision {other})")


def experiment_options(command: F) -> F:
    """What decides an experiment."""
    for option in reversed(_EXPERIMENT):
        command = option(command)
    return command


def hardware_options(command: F) -> F:
    """Where training runs."""
    for option in reversed(_HARDWARE):
        command = option(command)
    return command


def device_option(command: F) -> F:
    """Where a command that does not train runs: on one device."""
    return _ACCELERATOR(command)


def experiment_table(registry: Registry, options: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of the experiment that a command line describes, `--set` not yet applied."""
    table = table_of(_beginning(registry, options["recipe"], options["config"]))
    for axis in (*BOXES, *BUDGETS):
        if options[axis] is not None:
            put(table, axis, options[axis])
    for name in ("seed", "labels"):
        if options[name] is not None:
            table[name] = options[name]
    if options["precision"] is not None:
        table["train"]["precision"] = options["precision"]
    if options.get("metric") is not None:
        table["evaluate"]["features"] = list(features_of(options["metric"]))
    return table


def _beginning(registry: Registry, recipe: str | None, path: Path | None) -> Experiment:
    """The experiment of a recipe or of a file, or the default one."""
    if recipe is not None and path:
        raise ConfigError(f"--recipe with --config {path}: both are whole experiments; give one of them")
    if recipe is not None:
        return recipe_experiment(registry, read_recipe(registry, recipe))
    if path is None:
        return Experiment()
    table = read_toml(path)
    table.pop("recipe", None)  # the file of a recipe, copied and changed, is an experiment too
    return checked_experiment(registry, table)


def recipe_experiment(registry: Registry, recipe: Recipe) -> Experiment:
    """The experiment of a recipe, checked; raises PluginError when it is at fault."""
    try:
        return checked_experiment(registry, recipe.table)
    except ConfigError as error:
        raise recipe.fault(error) from None


def put(table: dict[str, Any], box: str, text: str) -> None:
    """Fill a box by name, or set a budget.

    A component that already stands in a box keeps its fields, another one starts from its defaults.
    """
    if box in BUDGETS:
        table["train"][BUDGETS[box]]["budget"] = text
    elif box == "data":
        choice = parse_data(text)
        # absolute, so that the run can be gone back to from anywhere
        chosen: dict[str, Any] = {"use": choice.use} | (
            {"location": str(Path(choice.location).expanduser().absolute())} if choice.location else {}
        )
        if choice.truth:
            chosen["truth"] = True
        same = table[box]["use"] == choice.use and table[box].get("truth", False) == choice.truth
        table[box] = table[box] | chosen if same else chosen
    elif box in ("encoder", "decoder"):
        table[box] = table[box] if table[box]["use"] == text else {"use": text}
    elif box == "discriminator" and text == "none":
        table["adversarial"] = None  # and not left out: it is known that there is none
    elif box == "discriminator":
        game = table["adversarial"] = table.get("adversarial") or {}
        game[box] = game[box] if game.get(box, {}).get("use") == text else {"use": text}
    else:
        chosen_list = [_named(box, part) for part in text.split("+")]
        old = {(entry["use"], entry.get("level")): entry for entry in table[box]}
        table[box] = [old.get((entry["use"], entry.get("level")), entry) for entry in chosen_list]


def _named(box: str, part: str) -> dict[str, Any]:
    level, equals, name = part.rpartition("=")
    if not name or (equals and (box != "prior" or not level)):
        raise ConfigError(f"--{box} {part!r}: expected a name" + (" or LEVEL=NAME" if box == "prior" else ""))
    return {"use": name} | ({"level": level} if level else {})


def finished_experiment(registry: Registry, table: dict[str, Any], assignments: tuple[str, ...]) -> Experiment:
    """Apply `--set`, check every name and field before any work is done, and write every default out."""
    whole = copy.deepcopy(table)
    for assignment in assignments:
        if not _without_game(whole, assignment):
            override(whole, assignment)
    return resolved(registry, _of_source(checked_experiment(registry, whole)))


def _of_source(experiment: Experiment) -> Experiment:
    """An experiment on a source of codes with nothing in the boxes of a tokenizer, so that two that differ there are one."""
    if not experiment.data.truth:
        return experiment
    plain = Experiment()
    train = evolve(experiment.train, tokenizer=plain.train.tokenizer)
    features = evolve(experiment.evaluate, features=())
    unused = {box: getattr(plain, box) for box in ("encoder", "quantizer", "decoder", "loss", "adversarial")}
    return evolve(experiment, train=train, evaluate=features, **unused)


def _without_game(table: Mapping[str, Any], assignment: str) -> bool:
    """Whether it sets a field of the game where --discriminator none has taken the game away: there it means nothing.

    Raises ConfigError where nobody spoke of a game: a misplaced field must not begin one.
    """
    path = assignment.partition("=")[0].strip()
    if not path.startswith("adversarial.") or table.get("adversarial") is not None:
        return False
    if "adversarial" in table:
        return True
    raise ConfigError(_no_game(assignment))


def _no_game(assignment: str) -> str:
    return f"--set {assignment!r}: there is no adversarial game here; --discriminator NAME begins one"


def one(options: Mapping[str, Any], plugins: Plugins) -> Experiment:
    """The single experiment of a command line; raises ConfigError for a comma list."""
    for box in AXES:
        if options[box] and "," in options[box] and box != "data":
            raise ConfigError(f"--{box.replace('_', '-')} {options[box]!r}: one at a time here; `dvgen compare` takes lists")
    table = experiment_table(plugins.registry, options)
    for assignment in options["assignments"]:
        if _without_game(table, assignment):
            raise ConfigError(_no_game(assignment))
    experiment = finished_experiment(plugins.registry, table, options["assignments"])
    if experiment.data.truth:
        name = experiment.data.use
        raise ConfigError(
            f"--data truth:{name}: a source of codes has no images to train on; use `dvgen compare --data truth:{name}`"
        )
    return experiment
