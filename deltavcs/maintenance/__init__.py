"""Whole-repository services: checking and cleaning."""
