"""Merging: the methods, their statistics, adapters, and the tensors they work on. Nothing else merges."""
