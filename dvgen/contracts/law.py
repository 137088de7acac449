"""What a property of a contract is, and how it is told that one does not hold."""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import torch
from attrs import frozen
from torch import Tensor


class Broken(Exception):
    """A property does not hold; the text says what was found and what was expected."""


@frozen
class Law:
    """One property: its name (such as P1), the rule in words, when it applies, and the function that checks it.

    `check` takes what the contract is about and an example, and raises Broken (or lets an exception of the component pass).
    applies: of a quantizer, and of the `ModelSubject` of a component of another kind.
    slow: it compiles, or starts processes. once: it makes its own inputs, so that one example is enough.
    """

    name: str
    rule: str
    check: Callable[[Any, Any], None]
    applies: Callable[[Any], bool]
    slow: bool
    once: bool

    @property
    def full_name(self) -> str:
        """Its name and that of its check, which no other law has: "P12 straight_through"."""
        return f"{self.name} {self.check.__name__}"


def always(_: Any) -> bool:
    """Applies to every component."""
    return True


def law(
    name: str, rule: str, *, applies: Callable[[Any], bool] = always, slow: bool = False, once: bool = False
) -> Callable[[Callable[[Any, Any], None]], Law]:
    """Make a Law of a check function."""
    return lambda check: Law(name, rule, check, applies, slow, once)


def laws_in(*modules: ModuleType) -> tuple[Law, ...]:
    """All laws that these modules define, in order."""
    return tuple(law for module in modules for law in vars(module).values() if isinstance(law, Law))


def broken_laws(subject: Any, examples: Iterable[Any], laws: Iterable[Law]) -> dict[str, str]:
    """What does not hold, by name of law and check ("P12 straight_through"): the first failure, as one line. No hypothesis."""
    found: dict[str, str] = {}
    tried = tuple(examples)
    for law in laws:
        for example in tried[:1] if law.once else tried:
            try:
                law.check(subject, example)
            except Exception as error:
                found[law.full_name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
                break
    return found


def require(condition: object, text: str) -> None:
    """Raise Broken with this text unless the condition holds."""
    if not condition:
        raise Broken(text)


def require_equal(found: Tensor, expected: Tensor, what: str) -> None:
    """Raise Broken unless two tensors are equal in shape, dtype and every bit that counts (0.0 equals -0.0)."""
    same = found.shape == expected.shape and found.dtype == expected.dtype
    require(same, f"{what}: {found.dtype} of shape {tuple(found.shape)}, expected {expected.dtype} of {tuple(expected.shape)}")
    different = int((found != expected).sum()) if same else 0
    require(different == 0, f"{what}: {different} of {found.numel()} values differ; {_largest(found, expected)}")


def require_close(found: Tensor, expected: Tensor, what: str, relative: float = 1e-4, absolute: float = 0.0) -> None:
    """Raise Broken unless |found - expected| <= relative * max|expected| + absolute everywhere.

    Relative to the largest value: a tensor of a tiny scale is held to its own scale, and cancellation in one element is
    not held against it.
    """
    require(found.shape == expected.shape, f"{what}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    if not expected.numel():
        return
    wide, reference = found.detach().double(), expected.detach().double()
    require(wide.isfinite().all(), f"{what}: not finite")
    allowed = relative * float(reference.abs().max()) + absolute
    worst = float((wide - reference).abs().max())
    require(worst <= allowed, f"{what}: off by {worst:.3g}, allowed {allowed:.3g}; {_largest(found, expected)}")


def must_raise(act: Callable[[], object], wanted: type[Exception], what: str) -> Exception:
    """The error that `act` raises; Broken where that is not a `wanted` one, or none."""
    try:
        act()
    except wanted as error:
        return error
    except Exception as error:
        raise Broken(f"{what}: raised {type(error).__name__}, expected {wanted.__name__}: {error}") from error
    raise Broken(f"{what}: did not raise {wanted.__name__}")


def _largest(found: Tensor, expected: Tensor) -> str:
    if not found.numel():
        return "no values"
    place = int((found.detach().double() - expected.detach().double()).abs().nan_to_num(torch.inf).argmax())
    return f"for instance {found.flatten()[place].item():.9g} instead of {expected.flatten()[place].item():.9g}"
