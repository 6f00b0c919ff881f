"""Who makes a commit, when and why: what a caller passes to every verb that writes."""

from deltavcs.refs.store import Signature

__all__ = ["Signature"]
