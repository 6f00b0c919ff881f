"""One file per dataset: what its columns mean, what is odd about it, and how it is asked."""
