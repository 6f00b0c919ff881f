"""The verbs: one function in one file each; takes a Repository, returns a frozen dataclass."""
