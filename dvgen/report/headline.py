"""What a comparison says, in words: who is better by how much, what is a tie, what is not ranked and why."""

from collections.abc import Sequence

from attrs import frozen

from dvgen.report.cells import MINUS, NONE, Cell, Line, Results, Sheet, fixed, ranged, value_text
from dvgen.report.likelihood_tables import Rows, by_budget, exact
from dvgen.report.strip import Span, Strip
from dvgen.training.symptoms import Symptom, see

CHECK = "four neighbours"
"""The baseline that a prior which has learned anything beats."""
LEAST = 1e-4
WASHED_OUT = 20.0
"""PSNR in dB, of images, below which reconstructions have lost what is small. `shapes` of 32x32 pixels, each block replaced by
its mean and smoothed: 21.7 dB for blocks of 4x4 pixels, 17.6 dB for 8x8."""


@frozen
class Sentence:
    """A sentence, and what kind it is: lead, better, tie, unranked."""

    text: str
    look: str


@frozen
class Headline:
    """What is said of the rows of one budget: sentences, and a table of all pairs where there are several."""

    budget: str
    sentences: Sequence[Sentence]
    pairs: Sheet | None


def headlines(group: Results, rows: Rows) -> list[Headline]:
    """One a budget, in their order."""
    found = []
    for budget, own in by_budget(rows).items():
        verdicts = [verdict for verdict in group["verdicts"] if verdict["budget"] == budget]
        first = own[0][0]["prior"]
        told = [Sentence(in_words(v), look(v)) for v in verdicts if first in v["pair"] or len(verdicts) <= 3]
        found.append(Headline(budget, [Sentence(_lead(own, verdicts), "lead"), *told], _pairs(verdicts)))
    return found


def _lead(rows: Rows, verdicts: Sequence[Results]) -> str:
    """The row with the lowest NLL, and against which others that is more than chance."""
    row = rows[0][0]
    name, nll = row["prior"], value_text("nll", row["measurements"]["nll"])
    if not row["ranked"] or not exact(row):
        return f"Nothing is ranked. {name} has {'' if exact(row) else 'at most '}{nll} nats/code."
    if len(rows) == 1:
        return f"{name} has {nll} nats/code on held-out codes; there is no other prior to compare it with."
    own = [verdict for verdict in verdicts if name in verdict["pair"]]
    beaten = [_other(verdict, name) for verdict in own if verdict["verdict"] == f"{name} is better"]
    ties = [_other(verdict, name) for verdict in own if verdict["verdict"] == "tie"]
    parts = [f"better than {_listed(beaten)}"] if beaten else []
    parts += [f"tied with {_listed(ties)}"] if ties else []
    return f"{name} has the lowest NLL, {nll} nats/code" + (f": {', '.join(parts)}." if parts else ".")


def _other(verdict: Results, name: str) -> str:
    one, other = verdict["pair"]
    return str(other if one == name else one)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def look(verdict: Results) -> str:
    """Which kind of verdict it is."""
    return {"tie": "tie"}.get(verdict["verdict"], "better" if verdict["verdict"].endswith(" is better") else "unranked")


def in_words(verdict: Results) -> str:
    """A verdict as a sentence, with the difference such that the better of the two has the positive side of it."""
    one, other = verdict["pair"]
    if look(verdict) == "unranked" or verdict["interval"] is None:
        return f"{one} and {other}: {verdict['verdict']}."
    if look(verdict) == "tie":
        low, high = verdict["interval"]
        return (
            f"{one} and {other} tie: the difference of {fixed(abs(verdict['difference']), 4)} {verdict['unit']} may be chance "
            f"(95 % interval of {one} {MINUS} {other}: {fixed(low, 4, '+')} to {fixed(high, 4, '+')}{_p(verdict)})."
        )
    winner, loser, sign = (one, other, -1) if verdict["verdict"] == f"{one} is better" else (other, one, 1)
    ends = sorted(sign * end for end in verdict["interval"])
    share = verdict.get("better_on_image")
    on_images = "" if share is None else f" It has the lower NLL on {share if winner == one else 1 - share:.0%} of the images."
    return (
        f"{winner} is better than {loser} by {fixed(sign * verdict['difference'], 4)} {verdict['unit']} "
        f"(95 % interval {ranged(ends, 4)}{_p(verdict)}).{on_images}"
    )


def _p(verdict: Results) -> str:
    p = verdict.get("p_holm")
    return "" if p is None else f"; p\N{NO-BREAK SPACE}{_small(p)}, Holm-adjusted"


def _small(p: float) -> str:
    return f"<\N{NO-BREAK SPACE}{LEAST:.4f}" if p < LEAST else f"=\N{NO-BREAK SPACE}{p:.2g}"


def _pairs(verdicts: Sequence[Results]) -> Sheet | None:
    """Every pair with its difference drawn; nothing where sentences say it all."""
    known = [verdict for verdict in verdicts if verdict["interval"] is not None]
    if len(verdicts) < 2 or not known:
        return None
    strip = Strip([Span(v["difference"], *v["interval"]) for v in known], [0.0])
    names = (f"first {MINUS} second", "nats/code", "95 % interval", "p (Holm)", "first better on", "verdict")
    columns = [Cell(name, look={"95 % interval": "plot", "verdict": "words"}.get(name, "")) for name in names]
    lines = [Line(Cell(f" {MINUS} ".join(verdict["pair"])), _pair(verdict, strip)) for verdict in verdicts]
    return Sheet("", columns, lines, [Cell(""), Cell(""), Cell("", plot=strip.axis()), *(Cell("") for _ in range(3))])


def _pair(verdict: Results, strip: Strip) -> list[Cell]:
    if verdict["interval"] is None:
        return [*(Cell(NONE, look="na") for _ in range(4)), Cell(verdict["verdict"], look="words")]
    p, share = verdict.get("p_holm"), verdict.get("better_on_image")
    plot = strip.dot(Span(verdict["difference"], *verdict["interval"]), None, in_words(verdict))
    return [
        Cell(fixed(verdict["difference"], 4, "+"), f"95 % interval {ranged(verdict['interval'], 4)}"),
        Cell("", plot=plot),
        Cell(NONE if p is None else _small(p).removeprefix("=\N{NO-BREAK SPACE}")),
        Cell(NONE if share is None else f"{share:.0%} of images"),
        Cell(verdict["verdict"], look="words"),
    ]


def warnings(group: Results, rows: Rows) -> list[str]:
    """What a reader must not miss: what was not verified, and priors that have not learned more than counting does."""
    found = [f"{mark.name} is not verified, and so not ranked" for row, mark in rows if not _verified(row)]
    counted = next((b["measurements"]["nll"] for b in group["baselines"] if b["name"] == CHECK), None)
    if counted is not None:
        lost = [
            mark.name
            for row, mark in rows
            if exact(row) and row["measurements"]["nll"]["value"] >= counted["value"] and not _labelled(group)
        ]
        if lost:
            found.append(
                f"{_listed(lost)} {'is' if len(lost) == 1 else 'are'} not better than counting {CHECK}: train longer, "
                f"or look for a fault. {see(Symptom.NOISE)}"
            )
    fidelity = group["tokenizer"]["measurements"].get("psnr")
    if fidelity is not None and fidelity["value"] < WASHED_OUT:
        lost_detail = f"reconstructions have lost detail (PSNR {fidelity['value']:.1f} dB), and so have samples"
        found.append(f"{lost_detail}. {see(Symptom.BLURRY)}")
    skipped = group["tokenizer"].get("skipped") or ()
    if skipped:
        found.append(f"{len(skipped)} files of the data could not be read and were skipped, such as {skipped[0]}")
    return found


def _verified(row: Results) -> bool:
    checked = row.get("verification")
    return bool(checked and checked["verified"])


def _labelled(group: Results) -> bool:
    """Baselines know no labels, so a prior that does is not held to them."""
    return bool(group["tokenizer"]["conditioning"] == "labels")
