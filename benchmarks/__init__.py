"""What deltavcs costs, beside what a user would do instead: `python -m benchmarks` (`make bench`)."""
