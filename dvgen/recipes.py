"""Recipes: experiments that plugins ship as TOML files. Imports no torch."""
