"""Ranking: which past checkpoints are worth starting from."""
