"""Observers of a run: what is logged, and where."""

from dvgen_trackers.jsonl import dvgen_notice, dvgen_run_started, dvgen_step

__all__ = ["dvgen_notice", "dvgen_run_started", "dvgen_step"]
