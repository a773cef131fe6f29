"""Numba tile functions: they know arrays, no models, and never validate or raise."""
