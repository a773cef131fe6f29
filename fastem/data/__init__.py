"""Data that comes in blocks: sources, samples, sequences and files of results."""
