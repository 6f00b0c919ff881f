"""Tokenizers of stored checkpoints, as transformers loads them, without running what comes with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deltavcs.checkpoint import layout
from deltavcs.checkpoint.side_files import holds_tokenizer
from deltavcs.checkpoint.view import View
from deltavcs.errors import ErrorKind, InvalidInputError, reason_of
from deltavcs.evaluation.models import config_directory
from deltavcs.objects.store import ObjectStore
from deltavcs.skeleton.model_config import import_transformers, read_model_config
from deltavcs.skeleton.skeleton import building

_SETTINGS = "tokenizer_config.json"
_FAST = "tokenizer.json"


def load_tokenizer_of(objects: ObjectStore, view: View) -> Any:
    """The tokenizer among a checkpoint's files; None if there is none.

    Raises:
        InvalidInputError: `bad-checkpoint` if it needs code of its own, or is malformed.
        MissingDependencyError: transformers is not installed.
    """
    transformers = import_transformers()
    with config_directory(objects, view) as folder:
        if not holds_tokenizer(p.name for p in folder.iterdir()):
            return None
        config = _config(folder)
        _drop_code(folder)
        try:
            with building():
                return transformers.AutoTokenizer.from_pretrained(
                    folder, config=config, trust_remote_code=False, local_files_only=True
                )
        except Exception as exc:  # many types, all of them about the files
            raise _bad(f"transformers cannot load its tokenizer: {reason_of(exc)}") from exc


def _config(folder: Path) -> Any:
    """The configuration that says which tokenizer a model has; an empty one where it is of no use."""
    try:
        config = read_model_config((folder / layout.CONFIG).read_bytes())
    except (OSError, InvalidInputError):
        config = import_transformers().PreTrainedConfig()
    (folder / layout.CONFIG).unlink(missing_ok=True)
    named = getattr(config, "tokenizer_class", None)
    if named is not None and not _is_tokenizer(named):
        config.tokenizer_class = None
    return config


def _drop_code(folder: Path) -> None:
    """Take from tokenizer_config.json what names code of others, and the modules themselves.

    Raises:
        InvalidInputError: `bad-checkpoint` if nothing is left to load.
    """
    for module in folder.glob("*.py"):
        module.unlink()
    path = folder / _SETTINGS
    try:
        settings = json.loads(path.read_bytes())
    except OSError:
        return
    except (ValueError, RecursionError) as exc:
        raise _bad(f"{_SETTINGS} is malformed") from exc
    if not isinstance(settings, dict):
        raise _bad(f"{_SETTINGS} is no object")
    own = settings.pop("auto_map", None)
    named = settings.get("tokenizer_class")
    if named is not None and not _is_tokenizer(named):
        if own is not None or not (folder / _FAST).is_file():
            raise _bad(f"its tokenizer, {str(named)[:80]!r}, needs code of its own, which is never run")
        del settings["tokenizer_class"]
    path.write_text(json.dumps(settings))


def _is_tokenizer(name: object) -> bool:
    """True for a class of transformers that is a tokenizer."""
    transformers = import_transformers()
    if not isinstance(name, str):
        return False
    lookup = transformers.models.auto.tokenization_auto.tokenizer_class_from_name
    try:
        found = lookup(name) or lookup(f"{name.removesuffix('Fast')}") or lookup(f"{name}Fast")
    except Exception:  # a class whose own dependencies are not here
        return False
    return isinstance(found, type) and issubclass(found, transformers.PreTrainedTokenizerBase)


def _bad(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.BAD_CHECKPOINT)
