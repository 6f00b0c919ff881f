"""Bridges to the libraries people train with. Unlike the rest of the package they may read the clock."""
