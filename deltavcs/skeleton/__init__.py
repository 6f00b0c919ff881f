"""The model that a config.json describes, built without weights: its classes, its names, its embeddings."""
