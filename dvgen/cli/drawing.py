"""What `dvgen sample` computes: samples, samples of another size, completions. Imports torch."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import torch
from torch import Tensor

from dvgen.code_model import CodeModel
from dvgen.config import structure
from dvgen.data.loading import open_dataset, signal_batches
from dvgen.data.splits import SPLITS
from dvgen.errors import ConfigError, DataError
from dvgen.evaluation.completion import Completions, Region, given_codes, kept, kept_part, parse_region
from dvgen.evaluation.exhibits import place_for_samples, save_completions, save_samples
from dvgen.evaluation.sampling import Request, Samples, decode_codes, draw_samples
from dvgen.evaluation.subject import Subject
from dvgen.experiment import Experiment
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.data import Dataset
from dvgen.interfaces.sampling import Sampling
from dvgen.training.pipeline import Prepared, load_run
from dvgen.training.session import Session

NUMBER = 64
"""Samples that are drawn when nobody says how many."""
DTYPES = {"32-true": torch.float32, "bf16-true": torch.bfloat16}


class Originals(NamedTuple):
    """What is completed: codes (n, *grid) a level, and classes (n,) of the run, None for a run without labels."""

    codes: Codes
    labels: Tensor | None


@attrs.frozen
class Work:
    """A finished run on its device, and what to do with it; `options` are those of the command."""

    session: Session
    folder: Path
    experiment: Experiment
    prepared: Prepared
    model: CodeModel
    options: Mapping[str, Any]

    @property
    def batch(self) -> int:
        """How many signals go through a model at once."""
        return int(self.options["batch"] or self.experiment.evaluate.batch)

    def pause(self) -> None:
        """Raise Stopped when somebody asked to stop."""
        self.session.stop.check("drawing samples; nothing was written")


def sample_run(session: Session, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Draw from the run in `folder` and write it, a grid or a folder of sounds; returns what was done."""
    fields = {name: options[name] for name in ("temperature", "top_p", "guidance")}
    sampling = structure(fields | ({"top_k": options["top_k"]} if options["top_k"] else {}), Sampling)
    region = None if options["keep"] is None else parse_region(options["keep"])
    work = Work(session, folder, *load_run(session, folder), options)
    if not work.experiment.labels and (options["label"] is not None or sampling.guidance != 1.0):
        raise ConfigError(f"{folder}: trained without labels, so --label and --guidance mean nothing; train with --labels")
    done = _completions(work, sampling, region) if region else _samples(work, sampling)
    about = {"seed": options["seed"], "precision": options["precision"]}
    return {"schema": 1, **done, **about}


def _samples(work: Work, sampling: Sampling) -> dict[str, Any]:
    dataset, size = work.prepared.data.dataset, work.options["size"]
    number = work.options["number"] or NUMBER
    text = "" if size is None else f"-{_sides(size)}"
    place = _place(work, f"samples{text}", number)
    labels = _labels(dataset.classes, work.options["label"], number) if work.experiment.labels else None
    model = work.model if size is None else _enlarged(work, size)
    samples = _drawn(work, model, _request(work, sampling, number, labels))
    _save(work, place, lambda: save_samples(place, samples.signals, dataset))
    return {"file": str(place), "samples": number, "seconds": samples.seconds, "size": list(samples.signals.shape[2:])}


def _completions(work: Work, sampling: Sampling, region: Region) -> dict[str, Any]:
    dataset = work.prepared.data.dataset
    masks = kept(work.prepared.tokenizer.levels, region)
    originals = _originals(work)
    number = len(originals.codes[0])
    place = _place(work, "completions", number)
    labels = originals.labels
    if work.options["label"] is not None:
        labels = _labels(dataset.classes, work.options["label"], number)
    request = _request(work, sampling, number, labels, given_codes(originals.codes, masks))
    samples = _drawn(work, work.model, request)
    reconstructed = decode_codes(work.prepared.tokenizer, originals.codes, work.batch, work.pause)
    completions = Completions(reconstructed, kept_part(reconstructed, masks), samples.signals)
    _save(work, place, lambda: save_completions(place, completions, dataset))
    about = {"complete": work.options["complete"], "keep": str(region)}
    return {"file": str(place), "samples": number, "seconds": samples.seconds} | about


def _request(work: Work, sampling: Sampling, number: int, labels: Tensor | None, given: Codes | None = None) -> Request:
    return Request(n=number, labels=labels, sampling=sampling, seed=work.options["seed"], batch=work.batch, given=given)


def _drawn(work: Work, model: CodeModel, request: Request) -> Samples:
    """Samples; the prior draws in the precision asked for, the tokenizer decodes in its own."""
    return draw_samples(model.to(DTYPES[work.options["precision"]]), work.prepared.tokenizer, request, work.pause)


def _place(work: Work, name: str, number: int) -> Path:
    default = work.folder / "samples" / f"{name}-s{work.options['seed']}"
    return place_for_samples(work.options["out"], default, number, work.prepared.data.dataset)


def _save(work: Work, place: Path, save: Callable[[], None]) -> None:
    if not work.session.fabric.is_global_zero:
        return
    try:
        save()
    except OSError as error:
        raise DataError(f"{place}: cannot be written: {error.strerror}; choose another place with -o") from None


def _enlarged(work: Work, size: tuple[int, ...]) -> CodeModel:
    """The model over the codes of signals of this size. Raises ConfigError for one that cannot be."""
    text, tokenizer = _sides(size), work.prepared.tokenizer
    trained = tokenizer.shape[1:]
    steps = [math.lcm(*(side // level.grid[i] for level in tokenizer.levels)) for i, side in enumerate(trained)]
    if len(size) != len(trained) or any(many < few for many, few in zip(size, trained, strict=True)):
        raise ConfigError(f"--size {text}: the run was trained on {_sides(trained)}; expected at least that on each axis")
    if any(side % step for side, step in zip(size, steps, strict=True)):
        raise ConfigError(f"--size {text}: expected multiples of {_sides(steps)}, which is one code of the coarsest grid")
    try:
        levels = tokenizer.levels_at(size)
        return work.model.enlarged([level.grid for level in levels], work.options["stride"])
    except ConfigError as error:
        raise ConfigError(f"--size {text}: {error}") from None


def _sides(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _labels(classes: tuple[str, ...], wanted: str | None, n: int) -> Tensor:
    if wanted is None:
        return torch.arange(n) % len(classes)
    if wanted in classes:
        return torch.full((n,), classes.index(wanted))
    if wanted.isdecimal() and int(wanted) < len(classes):
        return torch.full((n,), int(wanted))
    raise ConfigError(f"--label {wanted!r}: no such class; known: {', '.join(classes[:20])}")


def _originals(work: Work) -> Originals:
    """The first signals of the source: of a split in the order in which results are measured, of a folder by name."""
    source, cache = work.options["complete"], work.prepared.cache
    if source not in SPLITS:
        with _opened(work, Path(source).expanduser().absolute()) as dataset:
            return _read(work, dataset, _number(work, len(dataset)))
    subject = Subject(cache, work.experiment.evaluate, work.session.fabric.device, work.pause)
    positions = subject.positions(source)[: _number(work, cache.size(source))]
    labels = cache.labels(source, positions) if work.experiment.labels else None
    return Originals(cache.codes(source, positions), labels)


def _number(work: Work, available: int) -> int:
    wanted = work.options["number"]
    if wanted is not None and wanted > available:
        raise ConfigError(f"-n {wanted}: --complete {work.options['complete']} has {available} signals; take fewer")
    return wanted or min(NUMBER, available)


@contextmanager
def _opened(work: Work, path: Path) -> Iterator[Dataset]:
    """The run's data set at another place; a file stands in a folder of its own. Raises ConfigError and DataError."""
    choice, source = work.experiment.data, work.options["complete"]
    splits = ", ".join(SPLITS)
    if not work.session.registry.load("dataset", choice.use).located:
        raise ConfigError(f"--complete {source}: the data set {choice.use!r} lies in no folder; expected one of {splits}")
    if not source or not path.exists():  # an empty path would be the folder one stands in
        raise ConfigError(f"--complete {source!r}: neither one of {splits} nor a folder or a file that is there")
    with tempfile.TemporaryDirectory() as alone:
        if path.is_file():
            shutil.copy(path, alone)
        place = alone if path.is_file() else str(path)
        try:
            dataset = open_dataset(work.session.registry, attrs.evolve(choice, location=place))
        except DataError as error:
            fault = str(error).replace(alone, source)
            raise DataError(f"--complete {source}: nothing that the run's data set can read: {fault}") from None
        yield dataset


def _read(work: Work, dataset: Dataset, number: int) -> Originals:
    tokenizer, source = work.prepared.tokenizer, work.options["complete"]
    if dataset.shape != tokenizer.shape:
        raise DataError(f"--complete {source}: signals of shape {dataset.shape}; the run was trained on {tokenizer.shape}")
    parts: list[Codes] = []
    for signals, _ in signal_batches(dataset, torch.arange(number), work.batch):
        work.pause()
        parts.append(tuple(code.cpu() for code in tokenizer.encode(signals.to(work.session.fabric.device))))
    codes = tuple(torch.cat(level) for level in zip(*parts, strict=True))
    return Originals(codes, _own_labels(work, dataset, number) if work.experiment.labels else None)


def _own_labels(work: Work, dataset: Dataset, number: int) -> Tensor | None:
    """The classes of the first signals among those of the run, by name; None when --label says them."""
    classes = work.prepared.data.dataset.classes
    names = [dataset.classes[label] for label in dataset.labels[:number].tolist()]
    unknown = sorted(set(names) - set(classes))
    if work.options["label"] is not None:
        return None
    if unknown:
        raise ConfigError(
            f"--complete {work.options['complete']}: class {unknown[0]!r} is none of the run's: {', '.join(classes[:20])}; "
            "name the sub-folders like them, or say --label"
        )
    return torch.tensor([classes.index(name) for name in names])
