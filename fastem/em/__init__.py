"""Drivers: how parameters start and move; they know models by two functions only."""
