"""What the commands that compute share: opening a session, watching it, drawing samples. Imports torch."""

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from torch import Tensor

from dvgen.cli.options import say
from dvgen.config import structure
from dvgen.discovery import Plugins
from dvgen.errors import ConfigError, DataError, Stopped
from dvgen.evaluation.exhibits import place_for_samples, save_samples
from dvgen.evaluation.sampling import Request, draw_samples
from dvgen.experiment import Experiment
from dvgen.interfaces.sampling import Sampling
from dvgen.report.progress import ProgressConsole
from dvgen.report.table import WIDTH, show_results
from dvgen.training.interrupt import stop_on_signal
from dvgen.training.pipeline import load_run
from dvgen.training.session import Hardware, Session, close_session, open_session


@contextmanager
def session_for(plugins: Plugins, options: Mapping[str, Any], experiment: Experiment | None = None) -> Iterator[Session]:
    """A session on the hardware asked for, shown on standard error, that stops on Ctrl-C without loss.

    Training has the precision of its experiment; without one, nothing is trained.
    """
    chosen = {name: options[name] for name in ("accelerator", "devices", "deterministic") if name in options}
    hardware = structure(chosen | ({"precision": experiment.train.precision} if experiment else {}), Hardware)
    with stop_on_signal(say) as stop, ProgressConsole(Console(stderr=True)) as progress:
        plugins.manager.register(progress, name="progress-console")
        try:
            session = open_session(plugins, stop, hardware)
            yield session
            close_session(session)
        except Stopped as error:  # raised on every rank at once
            traceback.clear_frames(error.__traceback__)  # they hold the wrapped module
            close_session(session)
            raise
        finally:
            plugins.manager.unregister(name="progress-console")


def print_results(results: Mapping[str, Any], as_json: bool) -> None:
    """Results on standard output: tables, or the document itself."""
    if as_json:
        click.echo(json.dumps(results))
        return
    console = Console()
    show_results(results, console if console.is_terminal else Console(width=WIDTH))


def sample_run(session: Session, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Draw samples from the run in `folder` and write them, a grid or a folder of sounds; returns what was done."""
    fields = {name: options[name] for name in ("temperature", "top_p", "guidance")}
    sampling = structure(fields | ({"top_k": options["top_k"]} if options["top_k"] else {}), Sampling)
    experiment, prepared, model = load_run(session, folder)
    dataset, classes = prepared.data.dataset, prepared.data.dataset.classes
    out = place_for_samples(options["out"], folder / "samples" / f"samples-s{options['seed']}", options["number"], dataset)
    if not experiment.labels and (options["label"] is not None or sampling.guidance != 1.0):
        raise ConfigError(f"{folder}: trained without labels, so --label and --guidance mean nothing; train with --labels")
    labels = _labels(classes, options["label"], options["number"]) if experiment.labels else None
    request = Request(
        n=options["number"], labels=labels, sampling=sampling, seed=options["seed"], batch=experiment.evaluate.batch
    )
    samples = draw_samples(
        model, prepared.tokenizer, request, lambda: session.stop.check("drawing samples; nothing was written")
    )
    if session.fabric.is_global_zero:
        try:
            save_samples(out, samples.signals, dataset)
        except OSError as error:
            raise DataError(f"{out}: cannot be written: {error.strerror}; choose another place with -o") from None
    return {"schema": 1, "file": str(out), "samples": options["number"], "seconds": samples.seconds, "seed": options["seed"]}


def _labels(classes: tuple[str, ...], wanted: str | None, n: int) -> Tensor:
    if wanted is None:
        return torch.arange(n) % len(classes)
    if wanted in classes:
        return torch.full((n,), classes.index(wanted))
    if wanted.isdecimal() and int(wanted) < len(classes):
        return torch.full((n,), int(wanted))
    raise ConfigError(f"--label {wanted!r}: no such class; known: {', '.join(classes[:20])}")
