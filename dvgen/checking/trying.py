"""One law, tried on examples until one breaks it, and that one made as plain as can be. Needs hypothesis."""

import warnings
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from attrs import Factory, frozen
from hypothesis import HealthCheck, Phase, given, settings

from dvgen.checking.place import Package, Place, lines_run, place_of_error
from dvgen.checking.subjects import Contract, Untried
from dvgen.contracts.law import Broken, Law
from dvgen.errors import DataError


@frozen
class Found:
    """A law that is broken: by which example, in words; what was found; and where.

    seen: whether the law saw it, else an error came in its way. place: where the error was raised. ran: where the law saw
    it, the functions of the plugin that it had called and the lines where they ended, the last one first.
    """

    example: str
    message: str
    seen: bool
    place: Place | None = None
    ran: Mapping[str, Place] = Factory(dict)


def fault_of(law: Law, contract: Contract, package: Package) -> Found | None:
    """How a law is broken; None when it is kept. Raises DataError when a file that the component needs is not there."""
    first = _first_failure(law, contract)
    if first is None:
        return None
    example, error = first if law.once else _plainest(law, contract, *first)
    words = "" if law.once else contract.words(example)
    place = place_of_error(error, package)
    # what is slow starts compilers or processes, which cannot be followed
    ran = {} if place or law.slow else lines_run(package, lambda: _error(law, contract.subject, example))
    return Found(words, message_of(error), isinstance(error, Broken), place, ran)


def fault_of_rule(law: Law, subject: Any, package: Package) -> Found | None:
    """How a rule of packages, which needs no example, is broken; None when it is kept. Raises DataError as `fault_of` does."""
    error = _error(law, subject, None)
    return None if error is None else found_in(error, package)


def found_in(error: Exception, package: Package) -> Found:
    """What an error says that came without an example."""
    return Found("", message_of(error), isinstance(error, Broken), place_of_error(error, package))


def message_of(error: Exception) -> str:
    """One line: what a law found, or the error and what it says."""
    text = " ".join(str(error).split())
    return text if isinstance(error, Broken) else f"{type(error).__name__}: {text}"


def _first_failure(law: Law, contract: Contract) -> tuple[Any, Exception] | None:
    for example in (contract.plain, *(() if law.once else contract.always)):
        if (error := _error(law, contract.subject, example)) is not None:
            return example, error
    return None if law.once else _drawn_failure(law, contract)


def _drawn_failure(law: Law, contract: Contract) -> tuple[Any, Exception] | None:
    """The first example that hypothesis draws and that breaks the law; every run draws the same ones."""
    broken: list[tuple[Any, Exception]] = []

    @settings(
        max_examples=contract.examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # it would shrink to zeros; a person thinks in differences from a plain example
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(example=contract.drawn)
    def draw(example: Any) -> None:
        if (error := _error(law, contract.subject, example)) is not None:
            broken.append((example, error))
            raise error

    try:
        draw()
    except Exception:
        if not broken:
            raise
    return broken[0] if broken else None


def _plainest(law: Law, contract: Contract, example: Any, error: Exception) -> tuple[Any, Exception]:
    """An example with as few fields as possible that differ from the plain one, and its error."""
    names = [field.name for field in attrs.fields(type(example))]
    again = True
    while again:
        again = False
        for name in names:
            plain = getattr(contract.plain, name)
            if getattr(example, name) == plain:
                continue
            candidate = attrs.evolve(example, **{name: plain})
            if (found := _error(law, contract.subject, candidate)) is not None:
                example, error, again = candidate, found, True
    return example, error


def _error(law: Law, subject: Any, example: Any) -> Exception | None:
    """What a law raises, from the same random state each time."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a law says what is wrong in its own words
        try:
            law.check(subject, example)
        except (DataError, Untried):
            raise
        except Exception as error:
            return error
    return None
