"""The symptoms that documentation has a section for, and the pointer to one with which a message ends. Imports no torch."""

from enum import Enum, unique

PAGE = "docs/troubleshooting.md"
"""In the repository, and the name of the page on its site: the installed package has no documentation."""


@unique
class Symptom(Enum):
    """Each is the anchor of its heading on the page, as Git hosts make them."""

    FEW_CODES = "few-codes-are-used"
    UNEVEN_CODES = "codes-are-used-unevenly"
    FEATURES_RUN_AWAY = "features-run-away-from-their-codes"
    SLOW_SEARCH = "the-search-for-the-nearest-code-is-slow"
    BLURRY = "samples-are-blurry"
    NOISE = "samples-look-like-noise"
    DISCRIMINATOR_WINS = "the-discriminator-wins"
    DISCRIMINATOR_LOSES = "the-discriminator-loses"
    ADAPTIVE_WEIGHT = "the-adaptive-weight-runs-away"
    RECONSTRUCTION_WORSE = "reconstruction-becomes-worse-when-the-game-begins"
    NO_GAME = "the-game-never-began"
    NOT_FINITE = "a-loss-is-not-finite"
    OUT_OF_MEMORY = "out-of-memory"
    NO_PLUGIN = "a-plugin-is-not-there"


def see(symptom: Symptom) -> str:
    """The end of a message about a symptom: where it says how to make sure, what causes it, and what to do."""
    return f"See {PAGE}#{symptom.value}"
