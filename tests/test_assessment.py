"""Assessing a prior: every split is looked at once, samples are fair, and keys name what a value depends on."""

from pathlib import Path
from typing import cast

import pytest
import torch
from contract_toys import ToyPrior
from torch import Tensor
from toy_components import NoiseDataset

from dvgen.code_model import CodeModel
from dvgen.data.token_cache import TokenBatch, TokenCache, TokenIdentity, write_tokens
from dvgen.evaluation import references
from dvgen.evaluation.assessment import assess_baselines
from dvgen.evaluation.baselines import MOST_CODES, ladder
from dvgen.evaluation.prior_likelihood import Likelihood, other_splits, self_gap
from dvgen.evaluation.subject import TEST, TRAIN, Signals, Subject
from dvgen.experiment import Evaluation
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.tokenizer import Tokenizer

LEVEL = Level("codes", (2, 2), 5)
SIZES = {"train": 40, "validation": 6, "test": 8}


class Counts(ToyPrior):
    """Remembers how many maps it was asked about."""

    asked = 0

    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        self.asked += len(codes[0])
        return super().forward(codes, context)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """Codes of which the first half of the training split is 0 and the rest is 1, as in data that are sorted by class."""
    tables = {}
    for split, size in SIZES.items():
        code = (torch.arange(size) >= size // 2).long()[:, None, None].expand(-1, 2, 2)
        tables[split] = [TokenBatch((code,), torch.zeros(size, dtype=torch.int64), torch.arange(size))]
    identity = TokenIdentity(tokenizer="t", data="d", levels=(LEVEL,), num_classes=1, splits=SIZES)
    write_tokens(tmp_path / "codes", tables, identity)
    return Subject(TokenCache.open(tmp_path / "codes"), Evaluation(batch=3), torch.device("cpu"), lambda: None)


def counting(subject: Subject) -> tuple[Counts, Likelihood]:
    prior = Counts(Counts.tiny(), levels=(LEVEL,), context=ContextShape((), 0))
    return prior, Likelihood(subject, CodeModel([prior]).eval(), labels=False)


@torch.no_grad()
def test_a_split_is_asked_about_once_and_a_part_of_it_not_at_all(subject: Subject) -> None:
    prior, likelihood = counting(subject)
    whole = likelihood.of(TRAIN)
    assert likelihood.of(TRAIN) is whole
    some = likelihood.of_some(TRAIN, torch.tensor([7, 3]))
    assert prior.asked == SIZES["train"]
    assert some.tolist() == [[whole[0, 7], whole[0, 3]]]
    alone = counting(subject)[1]
    alone.model.load_state_dict(likelihood.model.state_dict())
    assert alone.of_some(TRAIN, torch.tensor([7, 3]))[0].tolist() == pytest.approx(some[0].tolist())


@torch.no_grad()
def test_keys_say_which_part_of_a_split_and_which_samples(subject: Subject) -> None:
    """A value of a part of the training split is not one of the whole split; another temperature gives another gap."""
    likelihood = counting(subject)[1]
    found = other_splits(likelihood)
    splits = {name: dict(value.key.protocol)["split"] for name, value in found.items()}
    assert splits == {"nll_train": "train, 8 of 40", "nll_validation": "validation"}
    codes = subject.codes(TEST)
    one, other = (self_gap(likelihood, codes, None, {"temperature": t}).key for t in ("1.0", "0.7"))
    assert one.differences(other) == ["protocol sampler temperature: 1.0 against 0.7"]


def test_what_is_counted_of_sorted_data_is_a_fair_part(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 sorted training maps 10 are counted: the first 10 are all of one kind, and would call the other impossible."""
    monkeypatch.setattr("dvgen.evaluation.baselines.MOST_CODES", 10 * LEVEL.length)
    (counted,) = references.counted_codes(subject)
    assert len(counted) == 10
    assert counted[:, 0, 0].unique().tolist() == [0, 1]
    first = ladder((LEVEL,), subject.cache.codes(TRAIN, range(10)), subject.cache.codes(TEST))["unigram"].mean() / LEVEL.length
    assert assess_baselines(subject)["unigram"]["nll"].value < 0.6 * first


def test_large_test_splits_are_looked_up_in_parts_and_can_be_stopped(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ladder((LEVEL,), subject.cache.codes(TRAIN), subject.cache.codes(TEST))
    monkeypatch.setattr("dvgen.evaluation.baselines.AT_ONCE", 3 * LEVEL.length)
    pauses: list[int] = []
    parts = ladder((LEVEL,), subject.cache.codes(TRAIN), subject.cache.codes(TEST), lambda: pauses.append(1))
    assert {name: nats.tolist() for name, nats in parts.items()} == {name: nats.tolist() for name, nats in whole.items()}
    assert len(pauses) == 4 * (1 + 3)  # for each model with a context, before it is fitted and before each part
    assert MOST_CODES > 2**20


def test_the_identity_of_the_reference_is_computed_once() -> None:
    """Some sets draw every signal to hash themselves, and every distance carries the hash."""

    class Hashed(NoiseDataset):
        times = 0

        def digest(self) -> str:
            self.times += 1
            return "d"

    dataset = Hashed()
    signals = Signals(cast(Tokenizer, None), dataset, {}, {})
    assert signals.reference == signals.reference
    assert signals.reference.endswith("/test")
    assert dataset.times == 1
