"""Version control for model weights: base models and diff vectors, content-addressed, bit for bit.

    import deltavcs as dv
    repo = dv.open(".")
    state = dv.checkout(repo, "llama3.1 + (llama3.0-instruct - llama3.0)", device="cuda")
    model = dv.load_model(repo, "llama3.0-instruct")
    top = dv.rank(repo, task="piqa", k=2).top

Names are imported when they are first used: `import deltavcs` itself loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltavcs.errors import DeltaVCSError as DeltaVCSError
    from deltavcs.errors import ErrorKind as ErrorKind
    from deltavcs.porcelain.checkout import checkout as checkout
    from deltavcs.porcelain.checkout import checkout_files as checkout_files
    from deltavcs.porcelain.commit import commit as commit
    from deltavcs.porcelain.connectivity import connectivity as connectivity
    from deltavcs.porcelain.diff import diff as diff
    from deltavcs.porcelain.import_ import import_base as import_base
    from deltavcs.porcelain.lineage import lineage as lineage
    from deltavcs.porcelain.load import load_model as load_model
    from deltavcs.porcelain.load import load_tokenizer as load_tokenizer
    from deltavcs.porcelain.log import log as log
    from deltavcs.porcelain.mashup import mashup as mashup
    from deltavcs.porcelain.merge import merge as merge
    from deltavcs.porcelain.rank import rank as rank
    from deltavcs.porcelain.recycle import recycle as recycle
    from deltavcs.porcelain.show import show as show
    from deltavcs.porcelain.sql import sql as sql
    from deltavcs.porcelain.transfer import transfer as transfer
    from deltavcs.repo import Repository as Repository
    from deltavcs.repo import init_repository as init
    from deltavcs.repo import open_path as open
    from deltavcs.resources import Resources as Resources
    from deltavcs.signature import Signature as Signature

_HOMES = {
    "DeltaVCSError": "errors",
    "ErrorKind": "errors",
    "Repository": "repo",
    "Resources": "resources",
    "Signature": "signature",
    "checkout": "porcelain.checkout",
    "checkout_files": "porcelain.checkout",
    "commit": "porcelain.commit",
    "diff": "porcelain.diff",
    "import_base": "porcelain.import_",
    "init": "repo:init_repository",
    "lineage": "porcelain.lineage",
    "load_model": "porcelain.load",
    "load_tokenizer": "porcelain.load",
    "log": "porcelain.log",
    "mashup": "porcelain.mashup",
    "merge": "porcelain.merge",
    "rank": "porcelain.rank",
    "recycle": "porcelain.recycle",
    "connectivity": "porcelain.connectivity",
    "open": "repo:open_path",
    "show": "porcelain.show",
    "sql": "porcelain.sql",
    "transfer": "porcelain.transfer",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute or name)


def __dir__() -> list[str]:
    return __all__
