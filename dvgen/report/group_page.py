"""One tokenizer (or source of codes) with its priors, made ready for the template."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from attrs import frozen
from markupsafe import Markup

from dvgen.errors import IntegrityError
from dvgen.report.appendix import figures, settings, verification_sheet
from dvgen.report.cells import Keys, Results, Sheet, count
from dvgen.report.code_maps import HeatMaps, heat_maps, rank_charts
from dvgen.report.curves import learning_curves, pareto_charts
from dvgen.report.headline import Headline, headlines, warnings
from dvgen.report.likelihood_tables import (
    Rows,
    entropy,
    excess_sheet,
    ladder_sheet,
    level_sheet,
    likelihood_sheets,
    ordered,
    spent_sheet,
)
from dvgen.report.marks import Mark, marks_of
from dvgen.report.pictures import Picture, embedded, find
from dvgen.report.sample_tables import distance_sheet, extractor_sheets, extractors, other_sheet, tokenizer_sheet

T = TypeVar("T")
Shown = Sequence[tuple[Mark, Picture]]


@frozen
class Exhibits:
    """Pictures of a group, each only if it is there: reconstructions, and of every row samples and their neighbours."""

    reconstructions: Picture | None
    samples: Shown
    neighbours: Shown


@frozen
class GroupPage:
    """Everything the template shows of a group; what is empty or None is left out."""

    anchor: str
    name: str
    facts: Sequence[str]
    marks: Sequence[Mark]
    headlines: Sequence[Headline]
    fidelity: Results | None
    warnings: Sequence[str]
    notes: Sequence[str]
    likelihood: Sequence[Sheet]
    ladder: Sheet
    levels: Sheet | None
    excess: Sheet | None
    distances: Sheet | None
    extractors: Sequence[Sheet]
    others: Sheet | None
    tokenizer: Sheet | None
    spent: Sheet
    verification: Sheet | None
    figures: Sequence[tuple[str, Sequence[str]]]
    pareto: Sequence[Markup]
    curves: Sequence[Markup]
    maps: Sequence[HeatMaps]
    ranks: Sequence[Markup]
    exhibits: Exhibits
    settings: Sequence[tuple[str, str]]


def group_page(folder: Path, group: Results, keys: Keys, number: int, limit: int) -> GroupPage:
    """A group of the results, with what lies in the folder of the comparison; limit: bytes of one embedded picture."""
    rows = list(zip(group["rows"], marks_of(group["rows"]), strict=True))
    tokenizer = group["tokenizer"]
    left_out: list[str] = []
    maps = _tolerant(lambda: heat_maps(folder, ordered(rows), tokenizer["levels"]), left_out)
    ranks = _tolerant(lambda: rank_charts(folder, tokenizer, rows), left_out)
    return GroupPage(
        anchor=f"group-{number}",
        name=title(tokenizer),
        facts=_facts(tokenizer),
        marks=[mark for _, mark in rows],
        headlines=headlines(group, rows),
        fidelity=group.get("fidelity"),
        warnings=[*warnings(group, rows), *left_out],
        notes=group["notes"],
        likelihood=likelihood_sheets(rows, keys),
        ladder=ladder_sheet(group, rows, keys),
        levels=level_sheet(group, rows),
        excess=excess_sheet(rows, keys),
        distances=distance_sheet(group, rows, keys),
        extractors=extractor_sheets(group, rows, keys),
        others=other_sheet(group, rows, keys),
        tokenizer=tokenizer_sheet(group, keys),
        spent=spent_sheet(rows),
        verification=verification_sheet(rows),
        figures=figures(rows),
        pareto=pareto_charts(rows, extractors(group)),
        curves=learning_curves(folder, rows),
        maps=maps,
        ranks=ranks,
        exhibits=_exhibits(folder, tokenizer, ordered(rows), limit),
        settings=settings(group, rows),
    )


def _tolerant(make: Callable[[], Sequence[T]], left_out: list[str]) -> Sequence[T]:
    """A report is made of what there is; what is damaged is said to be."""
    try:
        return make()
    except IntegrityError as error:
        left_out.append(f"left out: {error}")
        return ()


def picture_files(folder: Path, results: Results) -> list[Path]:
    """Every picture that the page will show."""
    found = []
    for group in results["groups"]:
        found.append(find(folder / (group["tokenizer"].get("folder") or "") / "samples" / "reconstructions"))
        for row in group["rows"]:
            found += [find(folder / row["repeats"][0]["folder"] / "samples" / name) for name in ("samples", "neighbours")]
    return [path for path in found if path is not None]


def _exhibits(folder: Path, tokenizer: Results, rows: Rows, limit: int) -> Exhibits:
    def shown(name: str) -> Shown:
        found = [(mark, _picture(folder / row["repeats"][0]["folder"], name, limit)) for row, mark in rows]
        return [(mark, picture) for mark, picture in found if picture is not None]

    reconstructions = _picture(folder / (tokenizer.get("folder") or ""), "reconstructions", limit)
    return Exhibits(reconstructions, shown("samples"), shown("neighbours"))


def _picture(folder: Path, name: str, limit: int) -> Picture | None:
    path = find(folder / "samples" / name)
    return None if path is None else embedded(path, limit)


def title(tokenizer: Results) -> str:
    """What decides the codes, in a few words."""
    if tokenizer["kind"] == "truth":
        return f"truth:{tokenizer['name'].removeprefix('truth:')}"
    experiment = tokenizer["experiment"]
    parts = [tokenizer["encoder"], tokenizer["name"], experiment["decoder"]["use"]]
    game = experiment.get("adversarial")
    parts += [game["discriminator"]["use"]] if game else []
    losses = "+".join(choice["use"] for choice in experiment["loss"])
    return f"{' + '.join(parts)}, {losses}, on {tokenizer['data']}"


def _facts(tokenizer: Results) -> list[str]:
    images = ", ".join(f"{split} {n}" for split, n in tokenizer["images"].items())
    truth = tokenizer["kind"] == "truth"
    found = ["a source of codes whose probabilities are known"] if truth else [f"data {_where(tokenizer)}"]
    found += [f"images: {images}", f"conditioning: {tokenizer['conditioning']}", f"codes {tokenizer['codes'][:8]}"]
    if tokenizer.get("parameters"):
        spent = f"{tokenizer['steps']} steps in {tokenizer['train_seconds']:.0f} s"
        found.append(f"tokenizer: {count(tokenizer['parameters'])} parameters, {spent}")
    for level in tokenizer["levels"]:
        found.append(f"level {level['name']}: {'×'.join(map(str, level['grid']))} codes of {level['num_codes']}")
    floor = entropy(tokenizer)
    return found if floor is None else [*found, f"exact entropy: {floor:.4f} nats/code"]


def _where(tokenizer: Results) -> str:
    place = tokenizer.get("location")
    return f"{tokenizer['data']}:{place}" if place else str(tokenizer["data"])
