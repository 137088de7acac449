"""Stage one as dvgen trains it, on one batch that stays."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from training_sides import Side, our_sides

from dvgen.experiment import experiment_from
from dvgen.training.session import Session
from dvgen.training.stage import Stage
from dvgen.training.tokenizer import TokenizerStage, make_objective, new_tokenizer


class FixedSignals:
    """In the place of a data set."""

    def __init__(self, signals: Tensor) -> None:
        self.batch = signals

    def signals(self, indices: Sequence[int]) -> Tensor:
        """The signals at these indices."""
        return self.batch[list(indices)]


def stage_one(table: Mapping[str, Any], signals: Tensor, *, compiled: bool) -> dict[str, Side]:
    """The tokenizer of an experiment's tables, and its discriminator if there is a game, in both precisions."""

    def build(opened: Session) -> Stage:
        experiment = experiment_from(table)
        tokenizer = new_tokenizer(opened.registry, experiment, tuple(signals.shape[1:]))
        objective = make_objective(opened, experiment, tokenizer)
        dataset: Any = FixedSignals(signals)
        return TokenizerStage(tokenizer, objective, dataset, torch.arange(len(signals)), seed=0)

    return our_sides(build, len(signals), compiled=compiled)
