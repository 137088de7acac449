"""`dvgen recipes NAME`: what is in a recipe, and how large it is."""

import json
import math
from typing import Any

import click
from attrs import asdict

from dvgen.cli.listing import columns
from dvgen.cli.options import recipe_experiment
from dvgen.config import unstructure
from dvgen.errors import ConfigError
from dvgen.experiment import Experiment, table_of
from dvgen.recipes import Published, Recipe
from dvgen.registry import Registry


def describe(registry: Registry, recipe: Recipe, as_json: bool) -> None:
    """Show a recipe: its origin, its parts with their parameters, its codes and its training."""
    from dvgen.training.outline import outline

    experiment = recipe_experiment(registry, recipe)
    try:
        found = outline(registry, experiment, recipe.shape, recipe.classes)
    except ConfigError as error:
        raise recipe.fault(error) from None
    summary = registry.find("recipe", recipe.name).component.summary
    if as_json:
        document = _document(recipe, found, experiment) | {"summary": summary}
        click.echo(json.dumps(document, indent=1))
        return
    for line in [f"{recipe.name}: {summary}", *_origin(recipe), "", *_parts(recipe.published, found, experiment), ""]:
        click.echo(line)
    for line in [*_codes(recipe, found), *_training(recipe, experiment)]:
        click.echo(line)


def _origin(recipe: Recipe) -> list[str]:
    lines = [f"  source: {recipe.source}"]
    return [*lines, f"  note: {recipe.note}"] if recipe.note else lines


def _parts(published: Published, found: Any, experiment: Experiment) -> list[str]:
    """Every part, its component and its trainable parameters, sums beside those of the source."""
    quantizers = _each(experiment.quantizer, len(found.quantizers))
    rows = [
        ("encoder", experiment.encoder.use, found.encoder, None),
        *(
            (f"quantizer {name}".rstrip(), use, count, None)
            for (name, count), use in zip(found.quantizers.items(), quantizers, strict=True)
        ),
        ("decoder", experiment.decoder.use, found.decoder, None),
        ("tokenizer", "", found.tokenizer, published.tokenizer),
    ]
    if experiment.adversarial is not None:
        rows.append(("discriminator", experiment.adversarial.discriminator.use, found.discriminator, published.discriminator))
    by_level = {choice.level: choice.use for choice in experiment.prior}
    one = experiment.prior[0].use
    rows += [(f"prior {level}", by_level.get(level, one), count, None) for level, count in found.priors.items()]
    rows.append(("priors", "", found.prior, published.prior))
    table = [(part, use, *_counts(ours, its)) for part, use, ours, its in rows]
    shown = 5 if any(its for *_, its in rows) else 3
    headings = ("PART", "COMPONENT", f"{'PARAMETERS':>13}", f"{'PUBLISHED':>13}", "DIFFERENCE")
    return [line.rstrip() for line in columns([row[:shown] for row in (headings, *table)])]


def _each(choices: Any, parts: int) -> list[str]:
    """The names of one choice that stands for every part, or of one a part."""
    names = [choice.use for choice in choices]
    return names * parts if len(names) == 1 else names


def _counts(ours: int, published: int | None) -> tuple[str, str, str]:
    if published is None:
        return f"{ours:>13,}", "", ""
    return f"{ours:>13,}", f"{published:>13,}", f"{_difference(ours, published):+.2%}"


def _difference(ours: int, published: int) -> float:
    return ours / published - 1


def _codes(recipe: Recipe, found: Any) -> list[str]:
    levels = [f"{level.name} {'x'.join(map(str, level.grid))} of {level.num_codes}" for level in found.levels]
    ratio = f"{found.compression:.1f}" if math.isfinite(found.compression) else "infinitely many"
    signals = "x".join(map(str, recipe.shape))
    return [
        f"signals: {signals}, {found.signal_bits} bits each",
        f"codes: {', '.join(levels)}; together {found.codes} codes, {found.bits:.0f} bits: {ratio} times fewer",
    ]


def _training(recipe: Recipe, experiment: Experiment) -> list[str]:
    stages = {"tokenizer": experiment.train.tokenizer, "priors": experiment.train.prior}
    losses = " + ".join(choice.use if choice.weight == 1 else f"{choice.weight:g} {choice.use}" for choice in experiment.loss)
    game = experiment.adversarial
    if game is not None:
        losses += f"; {game.loss.use} against {game.discriminator.use}, weight {game.weight:g}, from step {game.start}"
    lines = [f"data: {experiment.data.use}", f"loss: {losses}"]
    if experiment.labels:
        classes = str(recipe.classes) if recipe.classes else "as many as the data have; not counted above"
        lines.append(f"labels: priors are conditioned on classes ({classes})")
    lines += [f"training of the {name}: {stage.budget}, batches of {stage.batch}" for name, stage in stages.items()]
    return lines


def _document(recipe: Recipe, found: Any, experiment: Experiment) -> dict[str, Any]:
    sums = {"tokenizer": found.tokenizer, "discriminator": found.discriminator, "prior": found.prior}
    published = {
        name: {"published": count, "ours": sums[name], "difference": _difference(sums[name], count)}
        for name, count in asdict(recipe.published).items()
        if count is not None and sums[name] is not None
    }
    own = ("encoder", "quantizers", "decoder", "discriminator", "priors")
    return {
        "schema": 1,
        "name": recipe.name,
        "source": recipe.source,
        "note": recipe.note,
        "shape": list(recipe.shape),
        "classes": recipe.classes,
        "parameters": {name: getattr(found, name) for name in own} | {"tokenizer": found.tokenizer, "prior": found.prior},
        "published": published,
        "levels": unstructure(found.levels),
        "codes": found.codes,
        "bits": found.bits,
        "signal_bits": found.signal_bits,
        "compression": found.compression if math.isfinite(found.compression) else None,
        "experiment": table_of(experiment),
    }
