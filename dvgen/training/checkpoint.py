"""Checkpoints: sealed folders of safetensors and JSON. Loading one runs no code and never accepts a damaged file."""

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import Factory, field, frozen
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dvgen.errors import IntegrityError
from dvgen.sealed import seal, verify
from dvgen.training.meter import Spent

FOLDER = "checkpoints"
KEPT = 2
_NAME = re.compile(r"step-[0-9]{8}")
_LEFTOVER = re.compile(r"\.(writing|old)-step-[0-9]{8}-[0-9]+")  # as `seal` names them
_MODEL, _OPTIMIZER, _STATE, _SUFFIX = "model", "optimizer", "state.json", ".safetensors"
_COUNTS = ("codes", "flops", "costs")
AVERAGE = "average"


@frozen
class Checkpoint:
    """Everything a run needs to go on: finished steps, seconds of training, weights and buffers, optimiser state.

    config: SHA-256 (hex) of the config it was trained under. more: further tensors by the name of their file, such as a
    discriminator's, or AVERAGE, the moving average of the weights. codes, flops: see `Spent`; 0 in a checkpoint from before
    they were counted. costs: operations of a step, by its kind; empty in such a checkpoint.
    """

    step: int
    seconds: float
    finished: bool
    config: str
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    more: Mapping[str, Mapping[str, Tensor]] = Factory(dict)
    codes: int = field(default=0, kw_only=True)
    flops: int = field(default=0, kw_only=True)
    costs: Mapping[str, int] = field(factory=dict, kw_only=True)

    @property
    def spent(self) -> Spent:
        """What training has spent."""
        return Spent(steps=self.step, codes=self.codes, flops=self.flops, seconds=self.seconds)

    @property
    def evaluated(self) -> dict[str, Tensor]:
        """Weights and buffers that evaluation uses: averaged weights where they are kept."""
        return {**self.model, **self.more.get(AVERAGE, {})}


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `folder/checkpoints/step-N` in one act, then drop all but the newest ones."""

    def fill(aside: Path) -> None:
        for file, tensors in {_MODEL: checkpoint.model, _OPTIMIZER: checkpoint.optimizer, **checkpoint.more}.items():
            save_file({name: _plain(tensor) for name, tensor in tensors.items()}, aside / (file + _SUFFIX))
        state = {name: getattr(checkpoint, name) for name in ("step", "seconds", "finished", "config", *_COUNTS)}
        (aside / _STATE).write_text(json.dumps(state), encoding="utf-8")

    target = folder / FOLDER / f"step-{checkpoint.step:08d}"
    seal(target, fill, {"kind": "checkpoint", "step": checkpoint.step})
    for old in steps(folder)[KEPT:]:
        shutil.rmtree(old)
    for path in (folder / FOLDER).iterdir():
        if _LEFTOVER.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    return target


def steps(folder: Path) -> list[Path]:
    """The checkpoints of a run folder, newest first, verified or not: folders named step- and eight digits."""
    found = (folder / FOLDER).glob("step-*")
    return sorted((path for path in found if _NAME.fullmatch(path.name) and path.is_dir()), reverse=True)


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies, or None when there is none yet.

    A damaged one is warned of and passed over; raises IntegrityError when there are checkpoints and all are damaged.
    """
    found = steps(folder)
    for place in found:
        try:
            return load_checkpoint(place)
        except IntegrityError as error:
            warnings.warn(f"checkpoint passed over: {error}", stacklevel=2)
    if found:
        raise IntegrityError(f"{folder}: every checkpoint is damaged; delete {folder / FOLDER} to train this stage again")
    return None


def load_checkpoint(place: Path) -> Checkpoint:
    """One checkpoint, verified byte for byte; raises IntegrityError with the fault."""
    verify(place)
    try:
        state = json.loads((place / _STATE).read_text(encoding="utf-8"))
        files = {file.stem: load_file(file) for file in place.glob(f"*{_SUFFIX}")}
        numbers = int(state["step"]), float(state["seconds"]), bool(state["finished"])
        counts = {name: state[name] for name in _COUNTS if name in state}  # older files have none
        return Checkpoint(*numbers, str(state["config"]), files.pop(_MODEL), files.pop(_OPTIMIZER), files, **counts)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        # sealed all the same: somebody else than dvgen wrote it
        raise IntegrityError(f"{place}: not a checkpoint of dvgen; train again in another folder") from None


def load_finished(folder: Path, config: str) -> Checkpoint:
    """The final checkpoint of a run; raises IntegrityError when it is damaged, of another config, or the run did not finish."""
    found = steps(folder)
    try:
        checkpoint = load_checkpoint(found[0]) if found else None
    except IntegrityError as error:
        raise IntegrityError(f"{error}; `dvgen train --resume` goes on from an older checkpoint") from None
    if checkpoint is None or not checkpoint.finished:
        raise IntegrityError(f"{folder}: training has not finished; go on with `dvgen train --resume`")
    check_config(checkpoint, config, folder)
    return checkpoint


def check_config(checkpoint: Checkpoint, config: str, folder: Path) -> None:
    """Raise IntegrityError unless a checkpoint was trained under `config`, the SHA-256 (hex) of the folder's config."""
    if checkpoint.config != config:
        raise IntegrityError(
            f"{folder}: trained under another config than its config.json says; restore config.json, or train in another folder"
        )


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Put weights and buffers of a checkpoint into a module; raises IntegrityError when they are of another model."""
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError:
        raise IntegrityError(
            f"{folder}: the checkpoint is not of the model that the config describes; was config.json changed, or a plugin?"
        ) from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors, "<parameter number>.<name>"; rates and groups follow from the config."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {f"{i}.{name}": torch.as_tensor(value) for i, values in state.items() for name, value in values.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors of `optimizer_tensors` back; raises IntegrityError when they are of other parameters, or in another order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        if int(number) >= len(parameters) or (tensor.ndim and tensor.shape != parameters[int(number)].shape):
            raise IntegrityError(
                "the optimiser's state is of other parameters, or in another order: was dvgen or a plugin changed since? "
                "Train in another folder"
            )
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _plain(tensor: Tensor) -> Tensor:
    # a copy: safetensors refuses tensors that share memory, as tied weights do
    return tensor.detach().cpu().contiguous().clone()
