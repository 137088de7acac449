"""Comparing: a grid of experiments, trained under equal budgets and measured under one protocol."""

from dvgen.compare.grid import expand
from dvgen.compare.rows import Comparison, check_features, compare_all, evaluate_run, open_all

__all__ = ["Comparison", "check_features", "compare_all", "evaluate_run", "expand", "open_all"]
