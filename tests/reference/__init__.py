"""Slow, obvious NumPy, written from the textbook, to hold the kernels against.

Nothing here knows of tiles, threads or Numba. Whole (N, K) arrays and loops over
components are welcome: these functions are read far more often than they are run.
"""
