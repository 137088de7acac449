"""The contracts of data sets, code sources and features as tests: a decorator a kind, and hypothesis draws the examples.

    @data_contract(MyDataset)
    class TestMyDataset: ...

Every decorator gives its class one test a law, of the component with its default config (of features `tiny()`) unless
another is given. examples: how many hypothesis draws for each law. Needs pytest and hypothesis.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dvgen.contracts.data_subject import DataSubject, FeaturesSubject, SourceSubject
from dvgen.contracts.pytest_components import DRAWN, laws_as_tests
from dvgen.contracts.pytest_laws import TestClass
from dvgen.contracts.taken_shapes import Shapes
from dvgen.interfaces.data import CodeSource, Dataset
from dvgen.interfaces.features import Features


def data_contract(
    kind: type[Dataset], *, config: Any = None, location: str | None = None, examples: int = DRAWN
) -> Callable[[TestClass], TestClass]:
    """A data set; location: what it is opened with."""
    return laws_as_tests(DataSubject(kind, config, location), examples)


def source_contract(
    kind: type[CodeSource],
    *,
    config: Any = None,
    parts: Mapping[str, Callable[..., Any]] | None = None,
    examples: int = DRAWN,
) -> Callable[[TestClass], TestClass]:
    """A code source; parts: what makes each part of its Config, by field."""
    return laws_as_tests(SourceSubject(kind, config, parts), examples)


def features_contract(
    kind: type[Features], *, config: Any = None, shapes: Shapes | None = None, examples: int = DRAWN
) -> Callable[[TestClass], TestClass]:
    """Features; shapes: of signals that they take."""
    return laws_as_tests(FeaturesSubject(kind, config, shapes), examples)
