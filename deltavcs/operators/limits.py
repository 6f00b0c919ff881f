"""Limits of the derived operators' parameters (spec v1-derived §3). Nothing is imported here."""

MAX_INPUTS = 256
MAX_PROGRAM_TOKENS = 2048
MAX_STACK = 16
MAX_NAME_BYTES = 4096
MAX_SCALAR_CHARS = 32
MAX_SEED = (1 << 53) - 1
"""Largest seed: every JSON reader keeps integers up to here exact."""
