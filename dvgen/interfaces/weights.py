"""Published files of weights, as the classes that need them declare them. Imports no torch."""

from collections.abc import Mapping

from attrs import Factory, field, frozen
from attrs.validators import deep_mapping, instance_of, matches_re, min_len


@frozen(kw_only=True)
class WeightFile:
    """A file that somebody published, which a component looks for and never fetches.

    names: what it may be called; under the first name it is kept. sha256: how its SHA-256 (hex) begins. url: where it is
    published. need: who needs what, such as "FID needs the 2015 Inception weights". instead: what can be used without it.
    mistaken: the beginnings of the SHA-256 of other files that are often taken for it, and what those are.
    """

    names: tuple[str, ...] = field(validator=min_len(1))
    sha256: str = field(validator=matches_re(r"[0-9a-f]{8,64}"))
    url: str
    need: str
    instead: str
    mistaken: Mapping[str, str] = field(default=Factory(dict), validator=deep_mapping(instance_of(str), instance_of(str)))
