"""Torch pieces that two or more plugins share. Public."""
