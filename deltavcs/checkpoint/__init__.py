"""Checkpoints: between directories of files, manifests of blobs, and dictionaries of tensors."""
