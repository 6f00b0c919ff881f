"""Adapters in PEFT's layout: what they are, which weights they change, and what becomes of those."""
