"""What the rows of one table share: a trained tokenizer or a source, its codes, and all that is measured of them."""

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from dvgen.blocks.cache_folder import cache_folder
from dvgen.compare.opening import OpenSignals
from dvgen.compare.results import Group
from dvgen.config import canonical
from dvgen.data.token_cache import TokenCache
from dvgen.evaluation.assessment import assess_baselines, code_entropy
from dvgen.evaluation.exhibits import save_reconstructions
from dvgen.evaluation.extractors import learn_features
from dvgen.evaluation.subject import TRAIN, Signals, Subject
from dvgen.evaluation.tokenizer_assessment import assess_codes
from dvgen.experiment import Experiment, digest
from dvgen.interfaces.data import CodeSource
from dvgen.tokenizer import Tokenizer
from dvgen.training.checkpoint import load_finished
from dvgen.training.outline import parameters
from dvgen.training.pipeline import CODES, prepare, start_run
from dvgen.training.session import Session
from dvgen.training.tokenizer import tokenizer_config, tokenizer_name
from dvgen.training.truth import draw_codes

Say = Callable[[str], None]


@frozen
class Coded:
    """Codes of every split, and the tokenizer in evaluation mode that made them; None where a source drew them."""

    cache: TokenCache
    tokenizer: Tokenizer | None


def group_name(experiment: Experiment) -> str:
    """What the experiments of one table share, as text: all that decides a tokenizer or a source, and how it is measured."""
    decided = experiment.data if experiment.data.truth else tokenizer_config(experiment)
    return canonical([canonical(decided), experiment.labels, experiment.evaluate])


def folder_name(experiment: Experiment) -> str:
    """The name of the folder of a group."""
    if experiment.data.truth:
        return f"{experiment.data.use}-{digest(experiment.data)[:8]}"
    return tokenizer_name(experiment)


def code(session: Session, experiment: Experiment, opened: OpenSignals | CodeSource, folder: Path) -> Coded:
    """Train a tokenizer in `folder` and extract its codes, or draw those of a source; what is finished is taken as it is."""
    start_run(session, experiment, folder, folder)
    if isinstance(opened, CodeSource):
        return Coded(draw_codes(session, experiment, opened, folder / CODES), None)
    prepared = prepare(session, experiment, opened.data, folder)
    return Coded(prepared.cache, prepared.tokenizer)


def assessed_group(
    session: Session, experiment: Experiment, coded: Coded, opened: OpenSignals | CodeSource, folder: Path
) -> Group:
    """Everything that is measured of codes, and of the tokenizer that made them."""
    subject, notes = _subject(session, experiment, coded, opened)
    assessment = assess_codes(subject, labels=experiment.labels)
    finished = None
    if subject.signals is not None and coded.tokenizer is not None:
        finished = load_finished(folder, digest(tokenizer_config(experiment)))
        if session.fabric.is_global_zero and assessment.originals is not None and assessment.reconstructed is not None:
            place = folder / "samples" / "reconstructions"
            save_reconstructions(place, assessment.originals, assessment.reconstructed, subject.signals.dataset)
    return Group(
        experiment=experiment,
        subject=subject,
        assessment=assessment,
        baselines=assess_baselines(subject),
        entropy=code_entropy(subject, labels=experiment.labels),
        folder=folder,
        notes=notes,
        parameters=None if coded.tokenizer is None else parameters(coded.tokenizer),
        spent=None if finished is None else finished.spent,
    )


def _subject(
    session: Session, experiment: Experiment, coded: Coded, opened: OpenSignals | CodeSource
) -> tuple[Subject, tuple[str, ...]]:
    """The subject of an assessment, and notes of what cannot be measured."""

    def pause() -> None:
        session.stop.check("assessing; what is trained is kept, and the same command goes on from there")

    device, signals = session.fabric.device, None
    notes: tuple[str, ...] = ()
    if isinstance(opened, OpenSignals) and coded.tokenizer is not None:
        data = opened.data
        spaces, missing = learn_features(
            opened.features, data.dataset, data.splits[TRAIN], pause, cache_folder(), required=experiment.evaluate.features
        )
        notes = (*opened.features.notes, *missing)
        signals = Signals(coded.tokenizer, data.dataset, data.splits, spaces)
    source = opened if isinstance(opened, CodeSource) else None
    subject = Subject(coded.cache, experiment.evaluate, device, pause, source, signals)
    return subject, notes
