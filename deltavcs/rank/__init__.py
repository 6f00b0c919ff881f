"""Tasks, evaluation and ranking: which past checkpoints help with a new task."""
