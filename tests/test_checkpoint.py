"""Checkpoints: what is saved comes back bit for bit, what is damaged is never used, and loading runs no code."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_runs import loop, same, saved, session, watched

from dvgen.errors import IntegrityError, Stopped
from dvgen.sealed import seal
from dvgen.training.checkpoint import (
    Checkpoint,
    check_config,
    load_checkpoint,
    load_finished,
    load_newest,
    load_optimizer,
    optimizer_tensors,
    save_checkpoint,
    steps,
)

CONFIG = "5f" * 32


def trained(updates: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A small module, an optimiser with state, and a tensor of every kind a model has."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2).double())
    module.register_buffer("transposed", torch.randn(3, 5).T)
    module.register_buffer("flag", torch.tensor(True))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(updates):
        module[2](module[1](module[0](torch.randn(5, 3))).double()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return module, optimizer


def checkpoint(step: int, *, finished: bool = False, config: str = CONFIG) -> Checkpoint:
    module, optimizer = trained()
    return Checkpoint(step, 1.5 * step, finished, config, module.state_dict(), optimizer_tensors(optimizer))


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    module, optimizer = trained()
    module[0].weight.data[0, :3] = torch.tensor([float("nan"), -0.0, 1e-45])
    save_checkpoint(tmp_path, Checkpoint(7, 0.1 + 0.2, True, CONFIG, module.state_dict(), optimizer_tensors(optimizer)))
    found = load_newest(tmp_path)
    assert found is not None
    assert (found.step, found.seconds, found.finished, found.config) == (7, 0.1 + 0.2, True, CONFIG)
    assert found.model.keys() == module.state_dict().keys()
    for name, tensor in module.state_dict().items():
        assert found.model[name].dtype == tensor.dtype
        assert found.model[name].shape == tensor.shape
        assert found.model[name].numpy().tobytes() == tensor.contiguous().numpy().tobytes(), name


def test_an_optimiser_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    ended, whole = trained(4)
    module, optimizer = trained(3)
    save_checkpoint(tmp_path, Checkpoint(3, 0.0, False, CONFIG, module.state_dict(), optimizer_tensors(optimizer)))
    found = load_checkpoint(steps(tmp_path)[0])
    fresh, resumed = trained(0)
    fresh.load_state_dict(dict(found.model))
    load_optimizer(resumed, found.optimizer)
    torch.manual_seed(0)
    trained(3)  # leaves the random state where it was after three updates
    fresh[2](fresh[1](fresh[0](torch.randn(5, 3))).double()).sum().backward()
    resumed.step()
    assert same(fresh.state_dict(), ended.state_dict())
    assert same(optimizer_tensors(resumed), optimizer_tensors(whole))


def test_an_optimizers_state_of_other_parameters_is_refused() -> None:
    """Their number alone says which they belong to: groups in another order would get each other's moments."""
    module, optimizer = trained()
    turned = torch.optim.AdamW(list(module.parameters())[::-1], lr=0.1)
    fewer = torch.optim.AdamW(list(module.parameters())[:2], lr=0.1)
    for other in (turned, fewer):
        with pytest.raises(IntegrityError, match="of other parameters"):
            load_optimizer(other, optimizer_tensors(optimizer))


def test_an_optimiser_without_state_is_saved_too(tmp_path: Path) -> None:
    module, optimizer = trained(0)
    save_checkpoint(tmp_path, Checkpoint(0, 0.0, True, CONFIG, module.state_dict(), optimizer_tensors(optimizer)))
    assert dict(load_finished(tmp_path, CONFIG).optimizer) == {}


def test_tied_weights_are_saved_under_both_names(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path, Checkpoint(1, 0.0, False, CONFIG, {"a": shared, "b": shared, "part": shared[1]}, {}))
    found = load_checkpoint(steps(tmp_path)[0]).model
    assert all(torch.equal(found[name], shared) for name in "ab")
    assert torch.equal(found["part"], shared[1])


def test_two_checkpoints_are_kept_and_leftovers_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".writing-step-00000001-99").mkdir(parents=True)
    for step in (9, 10, 99, 100):
        save_checkpoint(tmp_path, checkpoint(step))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000099", "step-00000100"]
    newest = load_newest(tmp_path)
    assert newest is not None
    assert newest.step == 100


def test_what_dvgen_did_not_write_is_neither_taken_nor_removed(tmp_path: Path) -> None:
    """Not the user's copy of a checkpoint, nor what a file manager or a version control hides in the folder."""
    place = tmp_path / "checkpoints"
    foreign = ["step-best", "step-00000007-copy", "step-7", "step-000000007", "step-0000000x"]
    hidden = [".git", ".writing-notes", ".old-step-by-step", ".step-00000001"]
    for name in (*foreign, *hidden):
        (place / name).mkdir(parents=True)
    (place / "step-99999999").touch()
    for name in (".writing-step-00000001-99", ".old-step-00000001-99"):
        (place / name).mkdir()
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, checkpoint(step))
    ours = ["step-00000002", "step-00000003"]
    assert sorted(path.name for path in place.iterdir()) == sorted([*foreign, *hidden, "step-99999999", *ours])
    assert [path.name for path in steps(tmp_path)] == ours[::-1]
    newest = load_newest(tmp_path)
    assert newest is not None
    assert newest.step == 3


def test_nothing_saved_is_nothing_found(tmp_path: Path) -> None:
    assert load_newest(tmp_path) is None
    with pytest.raises(IntegrityError, match="training has not finished"):
        load_finished(tmp_path, CONFIG)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def zero(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-64:] = bytes(len(content[-64:]))
    path.write_bytes(bytes(content))


DAMAGES = [truncate, flip, zero, Path.unlink]
FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_passed_over_with_a_warning(tmp_path: Path, file: str, damage: Callable[[Path], None]) -> None:
    for step in (5, 6):
        save_checkpoint(tmp_path, checkpoint(step, finished=True))
    damage(tmp_path / "checkpoints" / "step-00000006" / file)
    with pytest.warns(UserWarning, match="checkpoint passed over: .*step-00000006"):
        found = load_newest(tmp_path)
    assert found is not None
    assert found.step == 5
    with pytest.raises(IntegrityError):  # results are never taken of an older state than the run ended with
        load_finished(tmp_path, CONFIG)


def test_when_all_are_damaged_nothing_is_used(tmp_path: Path) -> None:
    for step in (5, 6):
        save_checkpoint(tmp_path, checkpoint(step))
        flip(tmp_path / "checkpoints" / f"step-{step:08d}" / "model.safetensors")
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(IntegrityError, match="every checkpoint is damaged"):
        load_newest(tmp_path)


def test_a_run_with_a_damaged_newest_checkpoint_still_ends_at_the_same_weights(tmp_path: Path) -> None:
    loop(session(), "tokenizer", tmp_path / "whole").run()
    with pytest.raises(Stopped):
        loop(watched(4)[0], "tokenizer", tmp_path / "run").run()
    truncate(steps(tmp_path / "run")[0] / "model.safetensors")
    with pytest.warns(UserWarning, match="passed over"):
        loop(session(), "tokenizer", tmp_path / "run").run()
    assert same(saved(tmp_path / "run"), saved(tmp_path / "whole"))


def test_a_finished_checkpoint_is_asked_to_be_finished(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(3, finished=False))
    with pytest.raises(IntegrityError, match="training has not finished; go on with"):
        load_finished(tmp_path, CONFIG)
    save_checkpoint(tmp_path, checkpoint(4, finished=True))
    assert load_finished(tmp_path, CONFIG).step == 4


def test_a_checkpoint_of_another_config_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(4, finished=True, config="a0" * 32))
    assert load_finished(tmp_path, "a0" * 32).config == "a0" * 32
    fault = re.escape(
        f"{tmp_path}: trained under another config than its config.json says; restore config.json, or train in another folder"
    )
    with pytest.raises(IntegrityError, match=f"^{fault}$"):
        load_finished(tmp_path, CONFIG)
    with pytest.raises(IntegrityError, match=f"^{fault}$"):
        check_config(checkpoint(4, config="a0" * 32), CONFIG, tmp_path)


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.trace,)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("sealed", [False, True], ids=["put in later", "sealed by the attacker"])
def test_a_pickle_is_refused_and_never_run(tmp_path: Path, name: str, sealed: bool) -> None:
    trace = tmp_path / "trace"
    place = save_checkpoint(tmp_path / "run", checkpoint(1))
    whole = {path.name: path.read_bytes() for path in place.iterdir() if path.name != "MANIFEST.json"}
    whole[name] = pickle.dumps(Hostile(trace))
    if sealed:
        shutil.rmtree(place)
        seal(place, lambda aside: [(aside / file).write_bytes(data) for file, data in whole.items()] and None, {})
    else:
        (place / name).write_bytes(whole[name])
    with pytest.raises(IntegrityError):
        load_checkpoint(place)
    assert not trace.exists()


def test_a_sealed_state_of_the_wrong_form_is_refused(tmp_path: Path) -> None:
    place = save_checkpoint(tmp_path / "run", checkpoint(1))
    whole = {path.name: path.read_bytes() for path in place.iterdir() if path.name != "MANIFEST.json"}
    for text in ({"step": 1}, [1], {"step": "one", "seconds": 0.0, "finished": True, "config": CONFIG}):
        whole["state.json"] = json.dumps(text).encode()
        seal(place, lambda aside: [(aside / file).write_bytes(data) for file, data in whole.items()] and None, {})
        with pytest.raises(IntegrityError):
            load_checkpoint(place)
