"""The outcome of verifying a prior: one check, and all of them. Imports no torch."""

from collections.abc import Mapping
from typing import Any, Self

from attrs import asdict, field, frozen
from attrs.validators import deep_iterable, instance_of, optional

from dvgen.errors import DataError

REQUIRED = ("1", "5")
"""Checks that apply to every prior: without them nothing is verified. The others do not apply to every kind."""


@frozen
class Check:
    """One check of a prior: its number, its name, and a figure or the fault in words.

    passed: None where it does not apply, `detail` then says why.
    """

    number: str = field(validator=instance_of(str))
    name: str = field(validator=instance_of(str))
    passed: bool | None = field(validator=optional(instance_of(bool)))
    detail: str = field(validator=instance_of(str))

    @property
    def line(self) -> str:
        """One line for a person: pass, FAIL or -, the number, the name, the detail."""
        told = "-" if self.passed is None else "pass" if self.passed else "FAIL"
        return f"{told:<4}  {self.number:<2}  {self.name}: {self.detail}"

    def to_dict(self) -> dict[str, Any]:
        """A plain table, for results.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises DataError for anything else."""
        try:
            return cls(**table)
        except TypeError as error:
            raise DataError(f"not a check of a prior: {error.args[0]}; expected what dvgen wrote") from None


@frozen
class Verification:
    """All checks of one prior."""

    checks: tuple[Check, ...] = field(validator=deep_iterable(instance_of(Check), instance_of(tuple)))

    @property
    def verified(self) -> bool:
        """Whether no check failed, and those that apply to every prior passed."""
        passed = {check.number for check in self.checks if check.passed}
        return not self.faults and passed.issuperset(REQUIRED)

    @property
    def why_not(self) -> str:
        """Why it is not verified, in words; empty where it is."""
        if self.verified:
            return ""
        if not self.checks:
            return "not verified: evaluate.maps is 0"
        if self.faults:
            return f"not verified: check {', '.join(check.number for check in self.faults)}"
        passed = {check.number for check in self.checks if check.passed}
        return f"not verified: check {', '.join(number for number in REQUIRED if number not in passed)} does not apply"

    @property
    def faults(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.passed is False)

    def to_dict(self) -> dict[str, Any]:
        """Plain tables, for results.json."""
        return {"verified": self.verified, "checks": [check.to_dict() for check in self.checks]}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; whether it is verified follows from the checks. Raises DataError for anything else."""
        try:
            rows = list(table["checks"])
        except (KeyError, TypeError) as error:
            raise DataError(f"not a verification: {type(error).__name__}: {error}; expected what dvgen wrote") from None
        return cls(tuple(Check.from_dict(row) for row in rows))
