"""Mixtures: rows independent of one another."""
