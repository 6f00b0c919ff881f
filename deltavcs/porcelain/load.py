"""`load_model`: a transformers model straight from the repository, without a directory in between."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deltavcs.checkpoint import files
from deltavcs.checkpoint.materialize import load_state, torch_dtype
from deltavcs.checkpoint.view import View
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.parallel import Resources
from deltavcs.porcelain.checkout import parse_dtype, prepare
from deltavcs.repo import Repository

_SMALL_FILE = 64 << 20

# transformers and peft swap functions and defaults of the whole process while they build a model (tied
# weights, initialisers, the default dtype). Two threads at it at once leave the wrong ones behind, and every
# model built afterwards is wrong.
BUILDING = threading.Lock()


def load_model(
    repo: Repository,
    revision: str,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    merge_adapter: bool = False,
    resources: Resources | None = None,
) -> Any:
    """Load a revision or an expression as the transformers model its config.json names.

    Raises:
        InvalidInputError: `bad-checkpoint` if there is no config.json, or its tensors do not fit it.
        MissingDependencyError: torch or transformers is not installed.
    """
    target = prepare(repo, revision, dtype=dtype, merge_adapter=merge_adapter)
    state = load_state(repo.objects, target.view, device="cpu", resources=resources or Resources())
    with config_directory(repo, target.view) as folder:
        model = build_model(folder, state)
    if dtype is not None:
        model = model.to(torch_dtype(parse_dtype(dtype)))
    return model.to(device)


def load_tokenizer(repo: Repository, revision: str) -> Any:
    """The tokenizer of a revision or an expression, or None if it has none."""
    target = prepare(repo, revision, dtype=None, merge_adapter=False)
    transformers = _import_transformers()
    with config_directory(repo, target.view) as folder:
        if not files.holds_tokenizer(p.name for p in folder.iterdir()):
            return None
        return transformers.AutoTokenizer.from_pretrained(folder)


def build_model(folder: Path, state: dict[str, Any], *, dtype: str | None = None) -> Any:
    """A model from the configuration in `folder` and tensors by name.

    Args:
        dtype: of the parameters, as safetensors spells it; None for what the configuration says. Unlike
            `model.to`, it leaves buffers alone that no checkpoint holds, such as rotary frequencies.
    """
    transformers = _import_transformers()
    if not (folder / "config.json").is_file():
        raise InvalidInputError(
            "the checkpoint has no config.json, so its architecture is not known",
            kind=ErrorKind.BAD_CHECKPOINT,
            hint="Use checkout() for the tensors alone.",
        )
    config = transformers.AutoConfig.from_pretrained(folder)
    with BUILDING, _no_progress_bar(transformers):
        return _model_class(transformers, config).from_pretrained(
            None, config=config, state_dict=state, dtype=torch_dtype(dtype) if dtype else "auto"
        )


@contextlib.contextmanager
def _no_progress_bar(transformers: Any) -> Iterator[None]:
    """Keep transformers from drawing on stderr: a library does not print."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _model_class(transformers: Any, config: Any) -> Any:
    """The class that the configuration names; failing that, the causal language model of its type."""
    for name in getattr(config, "architectures", None) or ():
        found = getattr(transformers, name, None)
        if found is not None:
            return found
    for auto in (transformers.AutoModelForCausalLM, transformers.AutoModel):
        if type(config) in auto._model_mapping:
            return auto._model_mapping[type(config)]
    raise InvalidInputError(
        f"transformers has no model for {type(config).__name__}", kind=ErrorKind.BAD_CHECKPOINT
    )


class config_directory:  # noqa: N801 - a context manager, used like a function
    """A temporary directory with the small plain files of a view: configuration and tokenizer."""

    def __init__(self, repo: Repository, view: View) -> None:
        self._repo, self._view = repo, view
        self._folder = Path()

    def __enter__(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix="dvx-config-"))
        for file in self._view.files:
            if file.keys is None and file.size <= _SMALL_FILE and "/" not in file.path:
                data = file.data
                if data is None and file.blob is not None:
                    data = self._repo.objects.blobs.read(file.blob, max_bytes=_SMALL_FILE)
                (self._folder / file.path).write_bytes(data or b"")
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as exc:
        raise MissingDependencyError(
            "this needs transformers",
            kind=ErrorKind.MISSING_PACKAGE,
            hint="Install it: pip install transformers",
        ) from exc
    return transformers
