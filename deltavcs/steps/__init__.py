"""What the verbs are made of: steps that several of them share. Each takes a Repository."""
