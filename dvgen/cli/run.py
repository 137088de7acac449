"""`dvgen train` and `dvgen evaluate`: one experiment, one run folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dvgen.cli.every_command import json_option, pass_plugins, say
from dvgen.cli.options import (
    AXES,
    device_option,
    experiment_options,
    features_of,
    hardware_options,
    metric_option,
    one,
    say_precision,
)
from dvgen.discovery import Plugins
from dvgen.errors import ConfigError
from dvgen.experiment import Experiment, digest, table_of

FOLDER = click.Path(path_type=Path)


@click.command(short_help="Train one experiment: tokenizer, codes, prior.")
@experiment_options
@hardware_options
@click.option("--out", type=FOLDER, help="The run folder [default: runs/NAME-HASH].")
@click.option("--resume", type=FOLDER, help="Go on with the run in this folder; its own experiment is used.")
@json_option
@pass_plugins
def train(load: Callable[[], Plugins], resume: Path | None, out: Path | None, as_json: bool, **options: Any) -> None:
    """Train a tokenizer, extract its codes, train a prior on them: one run folder that can be resumed and sampled."""
    from dvgen.cli.work import session_for
    from dvgen.compare import check, open_spaces
    from dvgen.training.folder import check_out, working
    from dvgen.training.outline import parameters
    from dvgen.training.pipeline import (
        finish_run,
        open_data,
        prepare,
        read_run,
        start_run,
        tokenizer_folder,
    )
    from dvgen.training.session import resolve_precision

    plugins = load()
    if resume is not None:
        _nothing_else(options | {"out": out})
    given = read_run(resume) if resume else one(options, plugins)
    experiment = resolve_precision(given, options["accelerator"])
    folder = resume or out or _default_folder(experiment)
    if resume is None:
        check_out(folder, ours=["experiment.toml"])  # a run that was killed before it had a config has nothing to resume
    with session_for(plugins, options, experiment) as session:
        # with the features, or `dvgen evaluate` would refuse what was trained for hours
        data = open_data(session, experiment)
        check(session, experiment, open_spaces(session, experiment, data))
        if session.fabric.is_global_zero:
            say_precision(given, experiment)
        place = tokenizer_folder(folder)
        with working(folder, session.fabric.is_global_zero):
            start_run(session, experiment, folder, place)
            prepared = prepare(session, experiment, data, place)
            model = finish_run(session, experiment, prepared.cache, folder)
        summary = {
            "schema": 1,
            "folder": str(folder),
            "tokenizer_parameters": parameters(prepared.tokenizer),
            "prior_parameters": parameters(model),
            "skipped": list(data.dataset.skipped),
        }
        if session.fabric.is_global_zero:
            option = " -o grid.png" if data.dataset.rate is None else ""
            click.echo(json.dumps(summary) if as_json else f"trained: {folder}\nnext:    dvgen sample {folder} -n 64{option}")


@click.command(short_help="Measure a finished run on its test split.")
@click.argument("folder", type=FOLDER)
@metric_option
@device_option
@json_option
@pass_plugins
def evaluate(load: Callable[[], Plugins], folder: Path, metric: str | None, as_json: bool, **options: Any) -> None:
    """Measure a finished run on its test split: likelihood, reconstruction, codebook use, distance of samples."""
    from dvgen.cli.work import print_results, session_for
    from dvgen.compare import evaluate_run

    with session_for(load(), options) as session:
        results = evaluate_run(session, folder, None if metric is None else features_of(metric), say)
        if session.fabric.is_global_zero:
            print_results(results, as_json)


def _default_folder(experiment: Experiment) -> Path:
    priors = "+".join(choice.use for choice in experiment.prior)
    return Path("runs") / f"{experiment.data.use}-{experiment.quantizer_label}-{priors}-{digest(table_of(experiment))[:8]}"


def _nothing_else(options: dict[str, Any]) -> None:
    """A resumed run has its own experiment; an option that would change it is a mistake."""
    names = ("out", "config", *AXES, "seed", "labels", "precision")
    given = [name for name in names if options[name] is not None] + (["set"] if options["assignments"] else [])
    if given:
        raise ConfigError(
            f"--resume with --{given[0].replace('_', '-')}: a resumed run keeps its own experiment; drop that option"
        )
