"""Bridges to the libraries people train with."""
