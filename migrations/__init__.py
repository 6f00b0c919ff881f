"""SQL of the lineage index; installed as `deltavcs.migrations`."""
