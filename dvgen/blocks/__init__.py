"""Pieces that two or more plugins share. Public."""
