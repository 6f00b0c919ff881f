"""Merging: pure functions from float64 arrays to arrays, and the operators stored as formulas."""
