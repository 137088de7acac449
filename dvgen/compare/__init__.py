"""Comparing: a grid of experiments, trained under equal budgets and measured under one protocol."""

from dvgen.compare.grid import expand
from dvgen.compare.match import matched
from dvgen.compare.opening import check, open_all, open_spaces
from dvgen.compare.running import Comparison, compare_all, evaluate_run

__all__ = ["Comparison", "check", "compare_all", "evaluate_run", "expand", "matched", "open_all", "open_spaces"]
