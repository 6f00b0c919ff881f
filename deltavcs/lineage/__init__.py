"""The lineage index: objects and refs in DuckDB, derived, never the truth.

DuckDB is imported when an index is first opened, not with this package.
"""

from deltavcs.lineage.index import CatchUp, LineageIndex, Outcome

__all__ = ["CatchUp", "LineageIndex", "Outcome"]
