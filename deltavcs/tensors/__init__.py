"""Dtypes, safetensors framing and exact conversions; knows nothing of repositories."""
