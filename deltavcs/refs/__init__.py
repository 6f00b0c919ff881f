"""Mutable names for immutable objects, moved only by compare-and-swap."""

from deltavcs.refs.names import branch_ref, check_name, tag_ref
from deltavcs.refs.refstore import ABSENT, BROKEN, NoValue, RefStore

__all__ = ["ABSENT", "BROKEN", "NoValue", "RefStore", "branch_ref", "check_name", "tag_ref"]
