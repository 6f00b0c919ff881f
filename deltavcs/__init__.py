"""Version control for model weights: base models and diff vectors, content-addressed, bit for bit.

    import deltavcs as dv

    repo = dv.init("models")
    dv.import_base(repo, "./Llama-3.0-8B", draft=dv.Draft("llama3.0"))
    dv.import_base(repo, "./Llama-3.1-8B", draft=dv.Draft("llama3.1"))
    dv.commit(repo, "./chat", base="llama3.0", draft=dv.Draft(message="instruction tuning"))
    dv.transfer(repo, "llama3.0", "llama3.1")
    state = dv.checkout(repo, "llama3.1 + 0.8 * (chat - llama3.0)", device="cuda")
    model = dv.load_model(repo, "llama3.1+chat")
    top = dv.rank(repo, task="piqa", k=2).top

Names are imported when they are first used: `import deltavcs` itself loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltavcs.advice import Advice as Advice
    from deltavcs.checkpoint.intake import Intake as Intake
    from deltavcs.errors import AlreadyExistsError as AlreadyExistsError
    from deltavcs.errors import ConflictError as ConflictError
    from deltavcs.errors import DeltaVCSError as DeltaVCSError
    from deltavcs.errors import ErrorKind as ErrorKind
    from deltavcs.errors import FormatError as FormatError
    from deltavcs.errors import IntegrityError as IntegrityError
    from deltavcs.errors import InternalError as InternalError
    from deltavcs.errors import InvalidInputError as InvalidInputError
    from deltavcs.errors import MissingDependencyError as MissingDependencyError
    from deltavcs.errors import NotFoundError as NotFoundError
    from deltavcs.errors import StorageError as StorageError
    from deltavcs.identity import Identity as Identity
    from deltavcs.merging.methods import MERGE_METHODS as MERGE_METHODS
    from deltavcs.merging.settings import MergeMethod as MergeMethod
    from deltavcs.porcelain.branch import branch as branch
    from deltavcs.porcelain.branch import branches as branches
    from deltavcs.porcelain.branch import delete_branch as delete_branch
    from deltavcs.porcelain.branch import rename_branch as rename_branch
    from deltavcs.porcelain.checkout import checkout as checkout
    from deltavcs.porcelain.checkout import checkout_files as checkout_files
    from deltavcs.porcelain.commit import commit as commit
    from deltavcs.porcelain.connectivity import connectivity as connectivity
    from deltavcs.porcelain.diff import diff as diff
    from deltavcs.porcelain.doctor import doctor as doctor
    from deltavcs.porcelain.du import du as du
    from deltavcs.porcelain.fsck import fsck as fsck
    from deltavcs.porcelain.gc import gc as gc
    from deltavcs.porcelain.gc import plan_gc as plan_gc
    from deltavcs.porcelain.import_ import import_base as import_base
    from deltavcs.porcelain.index import rebuild_index as rebuild_index
    from deltavcs.porcelain.lineage import lineage as lineage
    from deltavcs.porcelain.load import load_model as load_model
    from deltavcs.porcelain.load import load_tokenizer as load_tokenizer
    from deltavcs.porcelain.log import log as log
    from deltavcs.porcelain.ls import ls as ls
    from deltavcs.porcelain.ls import ls_revision as ls_revision
    from deltavcs.porcelain.mashup import mashup as mashup
    from deltavcs.porcelain.merge import merge as merge
    from deltavcs.porcelain.rank import rank as rank
    from deltavcs.porcelain.rank_deltas import rank_deltas as rank_deltas
    from deltavcs.porcelain.recycle import Training as Training
    from deltavcs.porcelain.recycle import recycle as recycle
    from deltavcs.porcelain.reflog import reflog as reflog
    from deltavcs.porcelain.show import show as show
    from deltavcs.porcelain.sql import sql as sql
    from deltavcs.porcelain.status import status as status
    from deltavcs.porcelain.tag import delete_tag as delete_tag
    from deltavcs.porcelain.tag import tag as tag
    from deltavcs.porcelain.tag import tags as tags
    from deltavcs.porcelain.task import Wording as Wording
    from deltavcs.porcelain.task import add_task as add_task
    from deltavcs.porcelain.task import list_tasks as list_tasks
    from deltavcs.porcelain.task import remove_task as remove_task
    from deltavcs.porcelain.task import task as task
    from deltavcs.porcelain.transfer import transfer as transfer
    from deltavcs.repo import Repository as Repository
    from deltavcs.repo import discover_repository, init_repository, open_repository
    from deltavcs.resources import Profile as Profile
    from deltavcs.resources import Resources as Resources
    from deltavcs.signature import Signature as Signature
    from deltavcs.steps.carrying import Carrying as Carrying
    from deltavcs.steps.recording import Draft as Draft
    from deltavcs.steps.running import Running as Running
    from deltavcs.steps.selecting import Selection as Selection
    from deltavcs.storage.hub_client import HubOptions as HubOptions

    discover, init, open = discover_repository, init_repository, open_repository
    __version__: str

_HOMES = {
    "Advice": "advice",
    "AlreadyExistsError": "errors",
    "ConflictError": "errors",
    "DeltaVCSError": "errors",
    "Carrying": "steps.carrying",
    "Draft": "steps.recording",
    "ErrorKind": "errors",
    "FormatError": "errors",
    "HubOptions": "storage.hub_client",
    "Identity": "identity",
    "Intake": "checkpoint.intake",
    "IntegrityError": "errors",
    "InternalError": "errors",
    "InvalidInputError": "errors",
    "MERGE_METHODS": "merging.methods",
    "MergeMethod": "merging.settings",
    "MissingDependencyError": "errors",
    "NotFoundError": "errors",
    "Profile": "resources",
    "Repository": "repo",
    "Resources": "resources",
    "Running": "steps.running",
    "Selection": "steps.selecting",
    "Signature": "signature",
    "StorageError": "errors",
    "Training": "porcelain.recycle",
    "Wording": "porcelain.task",
    "add_task": "porcelain.task",
    "branch": "porcelain.branch",
    "branches": "porcelain.branch",
    "checkout": "porcelain.checkout",
    "checkout_files": "porcelain.checkout",
    "commit": "porcelain.commit",
    "connectivity": "porcelain.connectivity",
    "delete_branch": "porcelain.branch",
    "delete_tag": "porcelain.tag",
    "diff": "porcelain.diff",
    "discover": "repo:discover_repository",
    "doctor": "porcelain.doctor",
    "du": "porcelain.du",
    "fsck": "porcelain.fsck",
    "gc": "porcelain.gc",
    "import_base": "porcelain.import_",
    "init": "repo:init_repository",
    "lineage": "porcelain.lineage",
    "list_tasks": "porcelain.task",
    "load_model": "porcelain.load",
    "load_tokenizer": "porcelain.load",
    "log": "porcelain.log",
    "ls": "porcelain.ls",
    "ls_revision": "porcelain.ls",
    "mashup": "porcelain.mashup",
    "merge": "porcelain.merge",
    "open": "repo:open_repository",
    "plan_gc": "porcelain.gc",
    "rank": "porcelain.rank",
    "rank_deltas": "porcelain.rank_deltas",
    "rebuild_index": "porcelain.index",
    "recycle": "porcelain.recycle",
    "reflog": "porcelain.reflog",
    "remove_task": "porcelain.task",
    "rename_branch": "porcelain.branch",
    "show": "porcelain.show",
    "sql": "porcelain.sql",
    "status": "porcelain.status",
    "tag": "porcelain.tag",
    "tags": "porcelain.tag",
    "task": "porcelain.task",
    "transfer": "porcelain.transfer",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("deltavcs")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute or name)


def __dir__() -> list[str]:
    return __all__
