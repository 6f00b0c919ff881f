"""Immutable, hashed things: blobs in packs, and small objects that name them."""
