"""`dvgen compare`: which parts are better, by how much, and how sure that is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dvgen.cli.diff import diff
from dvgen.cli.every_command import json_option, say
from dvgen.cli.options import (
    AXES,
    experiment_options,
    experiment_table,
    finished_experiment,
    hardware_options,
    metric_option,
    put,
    say_precision,
)
from dvgen.discovery import Plugins
from dvgen.errors import ConfigError
from dvgen.experiment import Experiment, digest
from dvgen.registry import Registry

_OF_SIGNALS = ("encoder", "quantizer", "decoder", "loss", "discriminator", "tokenizer_budget", "metric")
_PATHS_OF_SIGNALS = ("encoder.", "quantizer.", "decoder.", "loss.", "adversarial.", "train.tokenizer.", "evaluate.features")
"""What means nothing to a source of codes: options, and beginnings of what --set sets."""


@click.group(short_help="Train a grid of experiments and compare them.", invoke_without_command=True)
@experiment_options
@metric_option
@hardware_options
@click.option("--match", type=click.Choice(["params"]), help="Choose widths so that priors have equally many parameters (5 %).")
@click.option(
    "--seeds", default=1, show_default=True, type=click.IntRange(min=1), help="Repeats of stage two on the same codes."
)
@click.option("--out", type=click.Path(path_type=Path), help="The folder of the comparison [default: runs/compare-HASH].")
@json_option
@click.pass_context
def compare(context: click.Context, /, as_json: bool, **options: Any) -> None:
    """Train a grid of experiments and compare them: dvgen compare --prior pixelsnail,gpt

    Recipes, components and both budgets take comma lists; the grid is their product. A tokenizer is trained once and
    shared by its rows. The same command goes on where an interrupted one stopped.
    """
    if context.invoked_subcommand is None:
        _compare(context.obj, as_json=as_json, **options)
        return
    given = (p for p in context.command.params if context.get_parameter_source(p.name or "") is ParameterSource.COMMANDLINE)
    for misplaced in given:
        name = context.invoked_subcommand
        raise ConfigError(f"{misplaced.opts[0]} before {name!r}: options of {name!r} stand behind it, and it trains nothing")


compare.add_command(diff)


def _compare(
    load: Callable[[], Plugins], seeds: int, out: Path | None, as_json: bool, match: str | None, **options: Any
) -> None:
    from dvgen.cli.work import print_results, session_for
    from dvgen.compare import Comparison, compare_all, matched, open_all
    from dvgen.compare.export import EXPORTS
    from dvgen.report.html import write_report
    from dvgen.training.folder import check_out, working
    from dvgen.training.session import resolve_precision

    plugins = load()
    given = grid(plugins.registry, options)
    experiments = [resolve_precision(one, options["accelerator"]) for one in given]
    _check_precision(experiments)
    folder = out or Path("runs") / f"compare-{digest([experiments, match] if match else experiments)[:8]}"
    check_out(folder, ours=[*EXPORTS, "results.json", "report.html", "rows", "tokenizers"])
    with session_for(plugins, options, experiments[0]) as session:
        opened = open_all(session, experiments)
        if match:
            experiments = matched(session, experiments, opened, say)
        if session.fabric.is_global_zero:
            say_precision(given[0], experiments[0])
        with working(folder, session.fabric.is_global_zero):
            results = compare_all(session, Comparison(experiments, seeds, folder), opened, say)
            if session.fabric.is_global_zero:
                write_report(folder, results)
        if session.fabric.is_global_zero:
            print_results(results, as_json)
            say(f"report: {folder / 'report.html'}; results: {folder / 'results.json'}; pictures: {folder}/*/*/samples/")


def grid(registry: Registry, options: Mapping[str, Any]) -> list[Experiment]:
    """Every experiment of a command line. Of several recipes each is a beginning of its own, to which all else applies."""
    from dvgen.compare import expand

    axes = {axis: _listed(axis, options[axis]) for axis in AXES if options[axis] is not None}
    unlisted = {**options, **dict.fromkeys(axes)}

    def put_any(table: dict[str, Any], axis: str, text: str) -> None:
        if axis == "recipe":
            table.clear()
            table.update(experiment_table(registry, unlisted | {"recipe": text}))
        else:
            put(table, axis, text)

    base = experiment_table(registry, unlisted)
    found = expand(base, axes, put_any, lambda table: finished_experiment(registry, table, options["assignments"]))
    _check_used(options, found)
    return list({digest(one): one for one in found}.values())  # of two quantizers a source of codes makes one experiment


def _check_used(options: Mapping[str, Any], experiments: Sequence[Experiment]) -> None:
    """Raise ConfigError for an option of tokenizers or of signals where there are only sources of codes."""
    if not all(experiment.data.truth for experiment in experiments):
        return
    given = [f"--{name.replace('_', '-')}" for name in _OF_SIGNALS if options.get(name) is not None]
    given += [f"--set {text!r}" for text in options["assignments"] if text.strip().startswith(_PATHS_OF_SIGNALS)]
    if given:
        name = experiments[0].data.use
        raise ConfigError(
            f"{given[0]} with --data truth:{name}: a source of codes has no tokenizer and no signals; leave it out"
        )


def _check_precision(experiments: Sequence[Experiment]) -> None:
    """Raise ConfigError unless all train in one precision, as recipes may not."""
    found = {experiment.train.precision for experiment in experiments}
    if len(found) > 1:
        raise ConfigError(f"train.precision: {' and '.join(sorted(found))} in one comparison; give one with --precision")


def _listed(box: str, text: str) -> list[str]:
    values = [value.strip() for value in text.split(",")]
    if not all(values):
        raise ConfigError(f"--{box.replace('_', '-')} {text!r}: an empty name in the list")
    return values
