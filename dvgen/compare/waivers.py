"""What a comparison says of components whose authors say that a law of the contract does not apply to them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dvgen.assembly import chosen_components, component_config
from dvgen.experiment import Choice, Experiment
from dvgen.parts import parts
from dvgen.registry import Registry


def waiver_notes(registry: Registry, experiments: Iterable[Experiment], features: Iterable[str] = ()) -> tuple[str, ...]:
    """One line for each component that these experiments use, parts of others too, and that waives laws; none twice.

    features: names of those that were measured beside the ones that the experiments name.
    """
    choices = [(kind, choice) for experiment in experiments for kind, choice in _used(experiment)]
    choices += [("features", Choice(use=name)) for name in features]
    named = (one for kind, choice in choices for one in _with_parts(registry, kind, choice))
    return tuple(note for kind, name in dict.fromkeys(named) if (note := _note(kind, name, registry.load(kind, name))))


def _used(experiment: Experiment) -> Iterator[tuple[str, Choice]]:
    """Kinds and choices of what an experiment is made of: on a source of codes, that and the prior."""
    for _, kind, choice in chosen_components(experiment):
        if not experiment.data.truth or kind in ("code-source", "prior"):
            yield kind, choice


def _with_parts(registry: Registry, kind: str, choice: Choice) -> Iterator[tuple[str, str]]:
    yield kind, choice.use
    config = component_config(registry, kind, choice)
    for field, part_kind in parts(type(config)).items():
        part = getattr(config, field)
        yield from _with_parts(registry, part_kind, Choice(use=part.use, fields=part.fields))


def _note(kind: str, name: str, cls: Any) -> str:
    """The note of a component; empty where it waives nothing. A result is told whatever its waivers look like."""
    waived = cls.waived_laws
    if not isinstance(waived, Mapping):
        return f"{kind} {name} waives laws, and does not say which: its waived_laws are no mapping"
    said = "; ".join(f"{str(law).partition(' ')[0]}: {reason}" for law, reason in waived.items())
    return f"{kind} {name} waives {' '.join(said.split())}" if said else ""
