"""What a prior says of held-out codes, of training codes and of its own samples, in nats."""

from attrs import evolve
from torch import Tensor

from dvgen.code_model import CodeModel
from dvgen.evaluation.measurement import Measurement, sampler_protocol
from dvgen.evaluation.nll import Floats, LikelihoodProtocol, likelihoods, per_image_nats
from dvgen.evaluation.references import Measurements
from dvgen.evaluation.statistics import unpaired
from dvgen.evaluation.subject import TEST, TRAIN, VALIDATION, Subject
from dvgen.interfaces.codes import Codes


class Likelihood:
    """The negative log-probabilities of a code model, in nats; what it says of a whole split is computed once."""

    def __init__(self, subject: Subject, model: CodeModel, *, labels: bool) -> None:
        self.subject, self.model, self.labels = subject, model, labels
        exact = zip(model.levels, model.exact_levels, strict=True)
        self.protocol = LikelihoodProtocol(
            codes=subject.cache.identity.hash,
            split=TEST,
            conditioning="labels" if labels else "none",
            bounds=frozenset(level.name for level, is_exact in exact if not is_exact),
        )
        self._whole: dict[str, Floats] = {}

    def nats(self, codes: Codes, labels: Tensor | None, totals: list[Tensor] | None = None) -> Floats:
        """(levels, n) of these codes; `totals` takes the sums over them at every place, a level each."""
        device = self.subject.device
        sums = [] if totals is None else totals

        def log_probs(part: Codes, given: Tensor | None) -> tuple[Tensor, ...]:
            self.subject.pause()
            terms = self.model(tuple(code.to(device) for code in part), None if given is None else given.to(device))
            for i, term in enumerate(terms):
                own = -term.double().sum(dim=0).cpu()
                sums[i : i + 1] = [own + sums[i] if i < len(sums) else own]
            return terms

        return per_image_nats(log_probs, codes, labels, self.subject.settings.batch)

    def of(self, split: str, totals: list[Tensor] | None = None) -> Floats:
        """(levels, n) of a whole split; `totals` is filled the first time."""
        if split not in self._whole:
            self._whole[split] = self._of(split, None, totals)
        return self._whole[split]

    def of_some(self, split: str, positions: Tensor) -> Floats:
        """(levels, n) of these positions of a split."""
        known = self._whole.get(split)
        return self._of(split, positions, None) if known is None else known[:, positions.numpy()]

    def _of(self, split: str, positions: Tensor | None, totals: list[Tensor] | None) -> Floats:
        cache = self.subject.cache
        return self.nats(cache.codes(split, positions), cache.labels(split, positions) if self.labels else None, totals)


def other_splits(likelihood: Likelihood) -> Measurements:
    """nll_train and nll_validation, each of at most as many images as the test split has."""
    subject, found = likelihood.subject, {}
    for split in (TRAIN, VALIDATION):
        chosen = subject.positions(split)[: subject.cache.size(TEST)]
        some = split if len(chosen) == subject.cache.size(split) else f"{split}, {len(chosen)} of {subject.cache.size(split)}"
        protocol = evolve(likelihood.protocol, split=some)
        found[f"nll_{split}"] = likelihoods(likelihood.of_some(split, chosen), subject.cache.levels, protocol)["nll"]
    return found


def self_gap(likelihood: Likelihood, samples: Codes, labels: Tensor | None, about: dict[str, str]) -> Measurement:
    """What a prior thinks of its own samples, less what it thinks of the test split, in nats/code; 0 for the truth.

    about: how the samples were drawn.
    """
    length = likelihood.subject.length
    own, held_out = (each.sum(axis=0) / length for each in (likelihood.nats(samples, labels), likelihood.of(TEST)))
    gap, interval = unpaired(own, held_out)
    key = likelihood.protocol.key("nats/code", metric="self-NLL gap")
    return Measurement(gap, interval, len(own), evolve(key, protocol=dict(key.protocol) | sampler_protocol(about)))
