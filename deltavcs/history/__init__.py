"""History: from what a user types to a commit, ancestors, and what the refs reach (spec §7)."""
