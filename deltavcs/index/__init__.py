"""The lineage index: objects and refs in DuckDB, derived, never the truth.

DuckDB is imported when an index is first opened, not with this package.
"""

from deltavcs.index.lineage_index import CatchUp, IndexOutcome, LineageIndex

__all__ = ["CatchUp", "IndexOutcome", "LineageIndex"]
