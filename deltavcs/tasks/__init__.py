"""Tasks: from rows of a dataset to prompts with answers."""
