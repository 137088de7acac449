"""`dvgen sample`: samples of a finished run, also larger than trained, and completions of what is given."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from dvgen.cli.every_command import json_option, pass_plugins
from dvgen.cli.options import device_option
from dvgen.discovery import Plugins
from dvgen.errors import ConfigError

PRECISIONS = ("32-true", "bf16-true")
_OUT = (
    "A PNG file; for sound, a folder; NAME.npz: pixels for other evaluators "
    "[default: samples/samples-sSEED in FOLDER, or completions-sSEED]."
)
_COMPLETE = "Complete signals: the first of this split of the run's data (test, validation, train), or of a folder or a file."
_KEEP = (
    "What of them is kept: top:0.5, bottom:0.25, left:0.5, right:0.5, or outside:0.5, all but the centre; "
    "in sound left is the beginning. Rounded to whole codes of the coarsest grid. "
    "Codes are drawn from left to right, row by row, and a prior of that order does not look ahead: of each level, kept codes "
    "steer what comes after them; those that come later stay as they are and steer nothing before them."
)
_SIZE = (
    "HEIGHTxWIDTH in pixels, or samples of sound: larger than trained, by a window that slides over the codes and is as large "
    "as the prior was trained on."
)
_STRIDE = (
    "Of --size: by how many codes of a level its window moves at once, at most by its own length. 1 predicts a code from the "
    "middle of a window, where borders leave room; more is faster [default: a quarter of the window]."
)
_PRECISION = (
    "Of the prior while it draws. In bf16-true a sample may depend on how many are drawn with it (--batch), which is rounding."
)


@click.command(short_help="Draw samples from a finished run.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-n", "number", type=click.IntRange(min=1), help="How many [default: 64; of completions, fewer where there are fewer]."
)
@click.option("-o", "out", type=click.Path(path_type=Path), help=_OUT)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Sample i of a seed is always the same.")
@click.option(
    "--label",
    help="Class name or number, for a run trained with --labels [default: all classes in turn; of completions, their own].",
)
@click.option("--temperature", default=1.0, show_default=True, help="Below 1: likelier codes, less variety.")
@click.option("--top-k", type=click.IntRange(min=1), help="Draw each code among its K likeliest.")
@click.option(
    "--top-p", default=1.0, show_default=True, help="Draw it among the fewest codes that hold this share of probability."
)
@click.option("--guidance", default=1.0, show_default=True, help="Classifier-free guidance scale; needs labels.")
@click.option("--size", metavar="SIZE", help=_SIZE)
@click.option("--stride", type=click.IntRange(min=1), help=_STRIDE)
@click.option("--complete", metavar="SOURCE", help=_COMPLETE)
@click.option("--keep", metavar="REGION", help=_KEEP)
@click.option("--precision", default=PRECISIONS[0], show_default=True, type=click.Choice(PRECISIONS), help=_PRECISION)
@click.option(
    "--batch", type=click.IntRange(min=1), help="How many at once; memory grows with it [default: evaluate.batch of the run]."
)
@device_option
@json_option
@pass_plugins
def sample(load: Callable[[], Plugins], folder: Path, as_json: bool, **options: Any) -> None:
    """Draw samples from a finished run: images as a grid, sound as wav files and a picture of their spectrograms."""
    _check(options)
    options["size"] = None if options["size"] is None else _size(options["size"])
    from dvgen.cli.drawing import sample_run
    from dvgen.cli.work import session_for

    with session_for(load(), options) as session:
        done = sample_run(session, folder, options)
        if session.fabric.is_global_zero:
            click.echo(json.dumps(done) if as_json else _report(done))


def _check(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for options that mean nothing together."""
    if options["complete"] is not None and options["size"] is not None:
        raise ConfigError("--complete with --size: what is completed has the size of the run's data; drop one of them")
    if options["stride"] is not None and options["size"] is None:
        raise ConfigError(f"--stride {options['stride']}: of which window? expected --size beside it, larger than trained")
    if options["complete"] is not None and options["keep"] is None:
        raise ConfigError(f"--complete {options['complete']}: expected --keep REGION beside it, such as --keep top:0.5")
    if options["keep"] is not None and options["complete"] is None:
        raise ConfigError(f"--keep {options['keep']}: of what? expected --complete SOURCE beside it, such as --complete test")


def _size(text: str) -> tuple[int, ...]:
    """64x96 for images, 4096 for sound."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}(x[1-9][0-9]{0,8})*", text, re.ASCII):
        raise ConfigError(f"--size {text!r}: expected HEIGHTxWIDTH in pixels, such as 64x96, or samples of sound, such as 4096")
    return tuple(int(side) for side in text.split("x"))


def _report(done: Mapping[str, Any]) -> str:
    what = ("completion" if "keep" in done else "sample") + ("" if done["samples"] == 1 else "s")
    rate = done["samples"] / max(done["seconds"], 1e-9)
    precision = "" if done["precision"] == PRECISIONS[0] else f", {done['precision']}"
    return f"{done['samples']} {what} in {_figure(done['seconds'])} s ({_figure(rate)} a second{precision}): {done['file']}"


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
