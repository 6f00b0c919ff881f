"""Operators that the format fixes to the bit: what a derived blob computes (docs/spec/v1-derived.md)."""
