"""Emission distributions: one file a family, of tile functions and maximisation."""
