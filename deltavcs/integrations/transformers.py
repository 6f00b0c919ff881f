"""`DvxCallback`: commit every checkpoint that a transformers `Trainer` saves, in the background.

    from deltavcs.integrations.transformers import DvxCallback
    trainer = Trainer(..., callbacks=[DvxCallback(".", name="my-run", base="llama3.1")])

Each save becomes a commit of the branch `my-run` (`my-run`, `my-run~1`, …) with step, loss and
hyper-parameters as metadata. Training never waits for a commit, except at its end, and never fails because
of one: what is not committed is logged, when it happens and once more at the end.

The base is found from where the model was loaded (a checkout, or what was imported), else from the weights of
the first save. What was taken is logged.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.utils.logging import get_logger

from deltavcs.checkpoint.layout import MARKER
from deltavcs.checkpoint.marker import Marker, encode_marker
from deltavcs.errors import AlreadyExistsError, DeltaVCSError, ErrorKind, InvalidInputError
from deltavcs.integrations.trainer_facts import facts_of_save
from deltavcs.objects.model import Role
from deltavcs.oid import CommitId
from deltavcs.porcelain.commit import Committed, commit
from deltavcs.refs import check_name
from deltavcs.repo import Repository, discover_repository
from deltavcs.resources import Resources
from deltavcs.signature import Signature
from deltavcs.steps.adapter_bases import commits_called
from deltavcs.steps.recording import Draft, tip_of
from deltavcs.storage import Workspace

_log = get_logger(__name__)

# State of the optimizer and of random generators: several times the model, pickled, and no part of it.
_LEFT_OUT = ("optimizer", "scheduler", "rng_state", "scaler", "training_args", "trainer_state")
_HOW = {
    "marker": "where the model was loaded from",
    "previous": "the base of the branch's last commit",
    "config": "adapter_config.json names it",
    "copy": "the weights are stored already",
}
_MAX_BRANCHES = 100
_MAX_NAME_BYTES = 200  # of a branch that is called after a folder


@dataclass(frozen=True, slots=True)
class _Save:
    """A save whose files lie in a writer's folder, which goes away when the stack is closed."""

    stack: contextlib.ExitStack
    folder: Path
    source: Path
    name: str


class DvxCallback(TrainerCallback):  # type: ignore[misc]
    """Commits at every save.

    Args:
        repository: an open repository, or a directory in or below it.
        name: branch of the run; by default the name of the output directory, with '-' for what a branch's
            name may not hold.
        base: what the training started from. Without it the base is found: from the directory or the model
            of the Hub that the model was loaded from, if that is a checkout or was imported; else from the
            weights. It is logged which was taken.
        task: task it is trained on, which a ranking can exclude.
        metadata: further facts for every commit.
        author: who commits; by default whom the repository's identity names.
        threads: threads of a commit; few, so that training keeps the processors.

    Attributes:
        commits: ids of the commits made so far, oldest first.
        errors: what went wrong; each was also logged as a warning.

    Raises:
        InvalidInputError: `bad-ref-name` for the name. Like the next, when it is made and not in training.
        NotFoundError: `no-repository`.
    """

    def __init__(
        self,
        repository: Repository | str | Path = ".",
        *,
        name: str | None = None,
        base: str | None = None,
        task: str | None = None,
        metadata: Mapping[str, str] | None = None,
        author: str | None = None,
        threads: int = 1,
    ) -> None:
        self.repository = (
            repository if isinstance(repository, Repository) else discover_repository(Path(repository))
        )
        self.name = check_name(name) if name is not None else None
        self.base = base
        self.task = task
        self.metadata = dict(metadata or {})
        self.author = author
        self.commits: list[CommitId] = []
        self.errors: list[BaseException] = []
        self._resources = Resources(threads=threads)
        self._pool: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []
        self._lock = threading.Lock()
        self._lost: list[str] = []
        self._branch: str | None = None
        self._loaded_from: CommitId | None = None
        self._settled = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Settle the branch, and look whether the model was loaded from a checkout of the repository."""
        self._branch, self._lost, self._settled = self._branch_for(args), [], False
        if state.is_world_process_zero and self.name is None and self._branch != _folder_name(args):
            _log.warning(
                "dvx: saves go to the branch %s (%r cannot be one)", self._branch, _folder_name(args)
            )
        if self.base is not None:
            return
        try:
            self._loaded_from = _loaded_from(self.repository, more.get("model"))
        except Exception as exc:
            _log.warning("dvx: the base is looked for at each save: %s", _told(exc))

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Put the files of the save aside and queue their commit."""
        if not state.is_world_process_zero:
            return
        source = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if not source.is_dir():
            _log.warning("dvx: %s is not there, nothing to commit", source)
            return
        try:
            self._queue(args, state, source)
        except Exception as exc:
            self._failed(source, exc)

    def _queue(self, args: Any, state: Any, source: Path) -> None:
        facts = {**facts_of_save(args, state), **self.metadata}
        signature = self.repository.identity.sign(f"save at step {state.global_step}")
        if self.author is not None:
            signature = replace(signature, author=self.author)
        stack = contextlib.ExitStack()
        try:
            folder = stack.enter_context(Workspace(self.repository.storage)).folder("save")
            _set_aside(source, folder)
            save = _Save(stack, folder, source, self._branch or self._branch_for(args))
            if self._pool is None:
                self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dvx-commit")
            self._pending.append(self._pool.submit(self._commit, save, facts, signature))
        except BaseException:
            stack.close()
            raise

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Wait for the commits under way, and tell which saves were not committed."""
        self.wait()
        if self._lost:
            _log.warning(
                "dvx: not committed: %s. Why is said above, and in `errors` of the callback; saves that are "
                "still there can be committed with deltavcs.commit().",
                ", ".join(self._lost),
            )

    def wait(self) -> None:
        """Wait until every save so far is committed or has failed."""
        pending, self._pending = self._pending, []
        wait_for(pending)
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    def _commit(self, save: _Save, facts: Mapping[str, str], signature: Signature) -> None:
        try:
            with save.stack:
                draft = Draft(save.name, f"step {facts['step']}", self.task, facts, signature)
                done = self._commit_where_it_fits(save, draft)
                with self._lock:
                    self.commits.append(done.recorded.commit)
                self._say_base(done)
        except BaseException as exc:  # nobody interrupts this thread; a panic of native code is no Exception
            self._failed(save.source, exc, save.folder)

    def _commit_where_it_fits(self, save: _Save, draft: Draft) -> Committed:
        """Commit to the branch, or to another one if it holds another model: no save is lost to that."""
        if self._settled:
            # Whatever happened in between, these are the saves of one run.
            return self._commit_to(save, replace(draft, name=self._branch, force=True))
        wanted = draft.name
        for n in range(2, _MAX_BRANCHES):
            try:
                return self._commit_to(save, draft)
            except AlreadyExistsError as exc:
                self._branch = f"{wanted}-{n}"
                draft = replace(draft, name=self._branch)
                _log.warning("dvx: %s, so the saves go to the branch %s", exc, self._branch)
        return self._commit_to(save, draft)

    def _commit_to(self, save: _Save, draft: Draft) -> Committed:
        hint = self._loaded_from
        if self.base is None and hint is not None and not self._is_on(draft.name, hint):
            # As a checkout leaves it: it counts unless the weights are unrelated to it.
            (save.folder / MARKER).write_bytes(encode_marker(Marker(hint, "")))
        return commit(
            self.repository.using(resources=self._resources),
            str(save.folder),
            base=self.base,
            draft=draft,
            origin={"path": str(save.source.absolute())},
        )

    def _is_on(self, branch: str | None, commit_id: CommitId) -> bool:
        """True if a branch holds a commit: a run that goes on keeps its base."""
        at = tip_of(self.repository, branch or "")
        while at is not None and at != commit_id:
            at = self.repository.commit(at).parent_as(Role.PREVIOUS)
        return at is not None

    def _say_base(self, done: Committed) -> None:
        """Tell once what the saves are committed as."""
        if self._settled:
            return
        self._settled = True
        base, run = done.base, done.recorded.name
        if self.base is None:
            how = _HOW.get(base.how, "the nearest weights")
            _log.warning("dvx: the saves are committed to %s as made from %s (%s)", run, base.name, how)
        if base.is_unrelated:
            _log.warning(
                "dvx: the weights are unrelated to %s (relative distance %.2f); name the right one as base",
                base.name, base.distance,
            )  # fmt: skip

    def _failed(self, source: Path, exc: BaseException, folder: Path | None = None) -> None:
        with self._lock:
            self.errors.append(exc)
            self._lost.append(source.name)
        told = _told(exc)
        if folder is not None:  # where its files were put aside, which is gone now
            told = told.replace(str(folder), str(source))
        _log.warning("dvx: a save was not committed: %s: %s", source.name, told)

    def _branch_for(self, args: Any) -> str:
        return self.name or _branch_name(_folder_name(args))


def _loaded_from(repository: Repository, model: Any) -> CommitId | None:
    """The commit that a model was loaded from, as far as the place that transformers remembers tells."""
    place = getattr(model, "name_or_path", None) or getattr(
        getattr(model, "config", None), "_name_or_path", None
    )
    if not isinstance(place, str) or not place or "\0" in place:
        return None
    found = commits_called(repository, place)
    return found[0] if found else None


def _folder_name(args: Any) -> str:
    return Path(args.output_dir).absolute().name


def _branch_name(folder: str) -> str:
    """A name that a branch may have, as near to a folder's as can be."""
    if _may_be_a_name(folder):
        return folder
    text = "".join(c if _may_be_a_name(f"x{c}x") else "-" for c in folder)
    text = text.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    text = re.sub(r"\.{2,}", ".", text).replace("@{", "@-").lstrip(".-").rstrip(".")
    text = re.sub(r"\.lock$", "-lock", text)
    return text if _may_be_a_name(text) else f"run-{text}".removesuffix("-")


def _may_be_a_name(text: str) -> bool:
    try:
        check_name(text)
    except InvalidInputError:
        return False
    return True


def _told(exc: BaseException) -> str:
    """An error for the log: those of other libraries say little without their type."""
    if not isinstance(exc, DeltaVCSError):
        return f"{type(exc).__name__}: {exc}"
    return f"{exc} (name it as `base` of the callback)" if exc.kind is ErrorKind.BASE_UNKNOWN else str(exc)


def _set_aside(source: Path, aside: Path) -> None:
    """Link (or copy) the model's files to a private folder: the Trainer may delete a save at any time."""
    for path in sorted(source.rglob("*")):
        if not path.is_file() or path.name.startswith(_LEFT_OUT):
            continue
        target = aside / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
