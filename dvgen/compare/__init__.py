"""Comparing: a grid of experiments, trained under equal budgets and measured under one protocol."""

from dvgen.compare.grid import expand
from dvgen.compare.rows import Comparison, compare_all, evaluate_run

__all__ = ["Comparison", "compare_all", "evaluate_run", "expand"]
