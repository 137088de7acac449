"""From an experiment to a trained tokenizer, its codes, and a trained prior, in folders that can be gone back to."""

import os
import re
from pathlib import Path

import tomli_w
import torch
from attrs import frozen
from torch import Tensor

from dvgen.code_model import CodeModel, assemble_code_model
from dvgen.data.loading import open_dataset
from dvgen.data.splits import split
from dvgen.data.token_cache import TokenCache
from dvgen.errors import ConfigError, DataError, IntegrityError, ShapeError
from dvgen.experiment import Experiment, experiment_from, table_of
from dvgen.interfaces.data import Dataset
from dvgen.sealed import write_json, write_text
from dvgen.tokenizer import Tokenizer
from dvgen.training.budget import check_division
from dvgen.training.extraction import extract
from dvgen.training.folder import CONFIG, MANIFEST, read_json, write_manifest
from dvgen.training.memory import out_of_memory
from dvgen.training.prior import load_prior, train_prior
from dvgen.training.session import Session
from dvgen.training.tokenizer import check_objective, load_tokenizer, new_tokenizer, tokenizer_config, train_tokenizer

TOKENIZER, CODES, EXPERIMENT = "tokenizer", "codes", "experiment.toml"


@frozen
class OpenData:
    """An opened data set and its splits: int64 indices by split name."""

    dataset: Dataset
    splits: dict[str, Tensor]


@frozen
class Prepared:
    """What stage two starts from: the data, a finished tokenizer in evaluation mode, and the codes of every split."""

    data: OpenData
    tokenizer: Tokenizer
    cache: TokenCache


def open_data(session: Session, experiment: Experiment) -> OpenData:
    """Open and divide the data of an experiment; raises DataError when it is not there."""
    dataset = open_dataset(session.registry, experiment.data)
    return OpenData(dataset, split(dataset))


def check_assembly(session: Session, experiment: Experiment, data: OpenData) -> None:
    """Build both models once, before anything is written.

    Raises ConfigError when the parts do not fit each other, the data, or the number of devices; DataError when weights that
    a loss needs are missing.
    """
    shape = data.dataset.shape
    tokenizer = new_tokenizer(session.registry, experiment, shape).eval()
    nothing = tuple(torch.zeros(1, *level.grid, dtype=torch.int64) for level in tokenizer.levels)
    try:
        made = tuple(tokenizer.decode(nothing).shape[1:])
    except (RuntimeError, ShapeError) as error:  # a decoder of other grids: images for sound, other steps between maps
        if out_of_memory(error):
            raise
        grids = ", ".join("x".join(map(str, level.grid)) for level in tokenizer.levels)
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"decoder: cannot take codes of grid {grids}; choose one that matches the encoder: {reason}"
        ) from None
    if made != shape:
        raise ConfigError(
            f"decoder: makes signals of shape {made} of these codes, but the data have {shape}; match the encoder"
        )
    check_objective(session, experiment, tokenizer)
    assemble_code_model(session.registry, experiment, tokenizer.levels, len(data.dataset.classes) if experiment.labels else 0)
    for training in (experiment.train.tokenizer, experiment.train.prior):
        check_division(training, session.fabric.world_size)


def prepare(session: Session, experiment: Experiment, data: OpenData, folder: Path) -> Prepared:
    """Train the tokenizer in `folder` (or go on, or load it) and extract the codes into `folder/codes`; idempotent."""
    tokenizer = train_tokenizer(session, experiment, data.dataset, data.splits["train"], folder)
    cache = extract(session, tokenizer, tokenizer_config(experiment), data.dataset, data.splits, folder / CODES)
    return Prepared(data, tokenizer, cache)


def start_run(session: Session, experiment: Experiment, folder: Path, tokenizer: Path) -> None:
    """Write what the run is: the experiment as TOML, resolved as JSON, and the manifest with where its tokenizer lies.

    Once: a run that goes on keeps the command, versions and hardware it began with.
    """
    if not session.fabric.is_global_zero or (folder / MANIFEST).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / EXPERIMENT, tomli_w.dumps(table_of(experiment)))
    write_json(folder / CONFIG, table_of(experiment))
    write_manifest(folder, experiment.seed, {"tokenizer": os.path.relpath(tokenizer, folder)})


def finish_run(session: Session, experiment: Experiment, cache: TokenCache, folder: Path) -> CodeModel:
    """Train the priors in `folder` on these codes (or go on, or load them) and complete the manifest."""
    model = train_prior(session, experiment, cache, folder)
    manifest = read_json(folder / MANIFEST)
    known = manifest | {"data": cache.identity.data, "tokens": cache.identity.hash}
    if session.fabric.is_global_zero and known != manifest:
        write_json(folder / MANIFEST, known)
    return model


def read_run(folder: Path) -> Experiment:
    """The experiment of a run folder; raises DataError when there is none."""
    if not (folder / CONFIG).is_file():
        raise DataError(f"{folder}: no run here (no {CONFIG}); give the folder that `dvgen train` or `dvgen compare` made")
    if (folder / MANIFEST).exists() and _tokenizer_of(folder) == ".":
        raise DataError(f"{folder}: a tokenizer, not a run; give a folder beside it in rows/")
    try:
        experiment = experiment_from(read_json(folder / CONFIG))
    except ConfigError as error:
        raise IntegrityError(f"{folder / CONFIG}: not what dvgen wrote: {error}") from None
    if experiment.data.truth:
        source = experiment.data.use
        raise DataError(f"{folder}: a prior of codes that {source!r} draws; it has no images; its results are the comparison's")
    return experiment


def tokenizer_folder(folder: Path) -> Path:
    """Where the tokenizer of a run lies: in the run, or beside it when a comparison shares it among its rows."""
    known = (folder / MANIFEST).exists()  # a run that was killed as it began may have none, and no tokenizer either
    return folder / _tokenizer_of(folder) if known else folder / TOKENIZER


def _tokenizer_of(folder: Path) -> str:
    """Where the manifest says that the tokenizer lies: here (of a tokenizer itself), in the run, or in a comparison."""
    found = read_json(folder / MANIFEST).get("tokenizer")
    if found not in (".", TOKENIZER) and not re.fullmatch(r"\.\./\.\./tokenizers/[\w+-]+", str(found)):
        raise IntegrityError(
            f"{folder / MANIFEST}: damaged, it does not say where the tokenizer lies; restore it, or train anew"
        )
    return str(found)


def load_run(session: Session, folder: Path) -> tuple[Experiment, Prepared, CodeModel]:
    """A finished run: its experiment, data, tokenizer, codes and priors; raises IntegrityError for damage."""
    experiment = read_run(folder)
    place = tokenizer_folder(folder)
    data = open_data(session, experiment)
    tokenizer = load_tokenizer(session, experiment, data.dataset.shape, place)
    if not (place / CODES).exists():
        raise IntegrityError(f"{place / CODES}: the codes are missing; go on with `dvgen train --resume {folder}`")
    cache = extract(session, tokenizer, tokenizer_config(experiment), data.dataset, data.splits, place / CODES)
    return experiment, Prepared(data, tokenizer, cache), load_prior(session, experiment, cache, folder)
