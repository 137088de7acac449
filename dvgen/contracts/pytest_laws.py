"""Laws as tests of a class, and hypothesis draws the examples. Needs pytest and hypothesis."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import example as explicit
from hypothesis.strategies import SearchStrategy

from dvgen.contracts.law import Law
from dvgen.contracts.waivers import waived_by

TestClass = TypeVar("TestClass", bound=type)


def as_tests(
    subject: Any,
    laws: Iterable[Law],
    *,
    plain: Any,
    drawn: SearchStrategy[Any],
    examples: int,
    always: Sequence[Any] = (),
) -> Callable[[TestClass], TestClass]:
    """Class decorator: gives the class one test a law.

    plain: the example of laws that make their own inputs. drawn: those of all others, `examples` for each, after those that
    are tried `always`. Laws that compile or start processes carry the mark `slow`, and those that the component waives
    `xfail`, which is not strict: in some configs they may hold. Raises ConfigError for a waiver that is not right.
    """
    waived = waived_by(subject)

    def decorate(cls: TestClass) -> TestClass:
        for law in laws:
            test = _once(law, subject, plain) if law.once else _drawn(law, subject, drawn, examples)
            for one in () if law.once else always:
                test = explicit(example=one)(test)
            test.__doc__ = f"{law.name}: {law.rule}."
            if law.full_name in waived:
                test = pytest.mark.xfail(reason=f"waived: {waived[law.full_name]}", strict=False)(test)
            setattr(cls, _name(law), pytest.mark.slow(test) if law.slow else test)
        return cls

    return decorate


def _name(law: Law) -> str:
    kind = "more_than_declared_" if law.name.endswith("-") else ""
    return f"test_{law.name.rstrip('-').lower()}_{kind}{re.sub(r'[^a-z0-9]+', '_', law.check.__name__)}"


def _once(law: Law, subject: Any, plain: Any) -> Any:
    def test(self: object) -> None:
        law.check(subject, plain)

    return test


def _drawn(law: Law, subject: Any, drawn: SearchStrategy[Any], examples: int) -> Any:
    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(example=drawn)
    def test(self: object, example: Any) -> None:
        law.check(subject, example)

    return test
