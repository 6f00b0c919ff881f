"""Evaluation: models on the prompts of a task."""
