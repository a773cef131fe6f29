"""Faces that scikit-learn's users know: validate, choose parts, store attributes."""
