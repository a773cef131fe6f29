"""How fast the kernels are on this machine, and how fast it would let them be."""
