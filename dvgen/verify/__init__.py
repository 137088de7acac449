"""Proving priors: checks that a likelihood is one, and that samples follow it."""
