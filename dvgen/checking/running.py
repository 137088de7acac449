"""A plugin's components held to all their rules, one after the other. Needs hypothesis."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from dvgen.checking import config_rules, package_rules
from dvgen.checking.package_rules import PACKAGE_CAUSES
from dvgen.checking.place import Package, package_of
from dvgen.checking.subjects import Contract, Untried, contract_of
from dvgen.checking.targets import Checked, Group
from dvgen.checking.trying import Found, fault_of, fault_of_rule, found_in
from dvgen.contracts.law import Law, laws_in
from dvgen.contracts.usual_causes import usual_cause
from dvgen.contracts.waivers import waived_by
from dvgen.errors import ConfigError, DataError

KEPT, BROKEN, WAIVED, NOT_TRIED = "kept", "broken", "waived", "not tried"
_LOADS = package_rules.target_is_of_its_kind
_NEEDED = (_LOADS, package_rules.tiny_builds)
"""Rules without which there is nothing to hold to a contract."""
_FIRST = (package_rules.listing_without_torch, _LOADS, package_rules.summary_is_a_line)
"""Rules that need no class; the others wait until there is one."""
_SECOND = tuple(law for law in laws_in(config_rules, package_rules) if law not in _FIRST)

_SLIPS = ("NameError", "UnboundLocalError", "AttributeError", "ImportError", "ModuleNotFoundError")
_SLIP = "A name that was misspelt, not imported, or not set in `__init__`: mend the line that is named, and check again."

Tell = Callable[[str, int, int], None]
"""Is told the rule that is tried next, how many are done, and how many there are."""


@frozen
class Outcome:
    """What became of a rule: its component, whether it is kept, and how it is broken.

    reason: why it was not tried, or is waived. tried: of a waived rule, what it would be without the waiver.
    """

    who: str
    law: Law
    state: str
    found: Found | None = None
    reason: str = ""
    tried: str = ""

    @property
    def trial(self) -> str:
        """How a waived rule fared."""
        return self.tried if self.tried == NOT_TRIED else f"{self.tried} when tried"

    @property
    def cause(self) -> str:
        """What usually breaks the rule; of an error that has nothing to do with it, what usually raises that."""
        if self.found and not self.found.seen and self.found.message.startswith(_SLIPS):
            return _SLIP
        return PACKAGE_CAUSES.get(self.law.check.__name__) or usual_cause(self.law)


@frozen
class Report:
    """What became of all rules of a group; why: reasons for which its contract was not tried."""

    group: Group
    outcomes: tuple[Outcome, ...]
    why: tuple[str, ...]

    def of(self, state: str) -> list[Outcome]:
        """Those in a state."""
        return [outcome for outcome in self.outcomes if outcome.state == state]


@frozen
class Effort:
    """slow: whether rules that compile or start processes are tried. examples: a law, or None for what suits the kind."""

    slow: bool = False
    examples: int | None = None


def check_group(group: Group, effort: Effort, tell: Tell) -> Report:
    """Hold every component of a group to the rules of packages, and then the group to its contract."""
    rules: list[Outcome] = []
    for one in group:
        rules += _package_outcomes(one, tell)
    stopping = [outcome for outcome in rules if outcome.state == BROKEN and outcome.law in _NEEDED]
    if stopping:
        return Report(group, tuple(rules), (f"its contract was not tried: {stopping[0].law.name} comes first",))
    try:
        contract = contract_of(group, effort.examples)
    except (Untried, DataError) as error:
        return Report(group, tuple(rules), (f"its contract was not tried: {str(error).splitlines()[0]}",))
    except Exception as error:  # of the plugin, on its first call: what applies to it is found by trying it
        failed = _fails(rules, error, package_of(group[0].target))
        return Report(group, failed, ("its contract was not tried: it comes after a first call",))
    if contract is None:
        return Report(group, tuple(rules), ())
    return Report(group, (*rules, *_contract_outcomes(group, contract, effort, tell)), ())


def _fails(rules: Sequence[Outcome], error: Exception, package: Package) -> tuple[Outcome, ...]:
    """The outcomes, the last of the rules that a contract needs broken by an error."""
    last = [outcome for outcome in rules if outcome.law in _NEEDED][-1]
    broken = evolve(last, state=BROKEN, found=found_in(error, package))
    return tuple(broken if outcome is last else outcome for outcome in rules)


def _package_outcomes(one: Checked, tell: Tell) -> list[Outcome]:
    package = package_of(one.target)
    done = [_tried_rule(law, one, package, tell) for law in _FIRST if law.applies(one)]
    if any(outcome.law is _LOADS and outcome.state == BROKEN for outcome in done):
        return done
    return done + [_tried_rule(law, one, package, tell) for law in _SECOND if law.applies(one)]


def _tried_rule(law: Law, one: Checked, package: Package, tell: Tell) -> Outcome:
    tell(f"{law.name} {law.rule}", 0, 0)
    return _outcome(f"{one.kind} {one.name}", law, lambda: fault_of_rule(law, one, package))


def _contract_outcomes(group: Group, contract: Contract, effort: Effort, tell: Tell) -> list[Outcome]:
    who, package = " and ".join(f"{one.kind} {one.name}" for one in group), package_of(group[0].target)
    made, waived = [], _waived(contract)
    for i, law in enumerate(contract.laws):
        tell(f"{law.name} {law.rule}", i, len(contract.laws))
        if law.slow and not effort.slow:
            outcome = Outcome(who, law, NOT_TRIED, reason="it takes long; --slow tries it")
        else:
            outcome = _outcome(who, law, lambda law=law: fault_of(law, contract, package))  # type: ignore[misc]
        if law.full_name in waived:
            outcome = evolve(outcome, state=WAIVED, reason=waived[law.full_name], tried=outcome.state)
        made.append(outcome)
    return made


def _waived(contract: Contract) -> Mapping[str, str]:
    """What the component waives: nothing, where its waivers are not right, which is a fault of their own (K9)."""
    try:
        return waived_by(contract.subject)
    except ConfigError:
        return {}


def _outcome(who: str, law: Law, try_it: Callable[[], Any]) -> Outcome:
    try:
        found = try_it()
    except (Untried, DataError) as error:
        return Outcome(who, law, NOT_TRIED, reason=str(error).splitlines()[0])
    return Outcome(who, law, KEPT if found is None else BROKEN, found)
