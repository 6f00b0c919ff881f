"""The verbs: one in a file each; they take a Repository and return frozen dataclasses, tensors or models."""
