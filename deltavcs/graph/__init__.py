"""History: resolving revisions and walking commits (spec §7). Reads objects and refs, never the index."""
