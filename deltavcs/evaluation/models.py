"""transformers models and their configuration, without a checkout in between."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from deltavcs.advice import Advice
from deltavcs.checkpoint.materialize import torch_dtype
from deltavcs.checkpoint.view import View
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.objects.store import ObjectStore
from deltavcs.skeleton.model_config import import_transformers, model_class, read_model_config
from deltavcs.skeleton.skeleton import BUILDING, building

_SMALL_FILE = 64 << 20


def build_model(folder: Path, state: dict[str, Any], *, dtype: str | None = None) -> Any:
    """A model from the configuration in `folder` and tensors by name.

    Args:
        dtype: of the parameters, as safetensors spells it; None for what the configuration says. Unlike
            `model.to`, it leaves buffers alone that no checkpoint holds, such as rotary frequencies.

    Raises:
        InvalidInputError: `bad-checkpoint` without a config.json that transformers takes.
        MissingDependencyError: transformers is not installed.
    """
    import_transformers()
    if not (folder / "config.json").is_file():
        raise InvalidInputError(
            "the checkpoint has no config.json, so its architecture is not known",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.TENSORS_ALONE,
        )
    config = read_model_config((folder / "config.json").read_bytes())
    with building():
        return model_class(config).from_pretrained(
            None, config=config, state_dict=state, dtype=torch_dtype(dtype) if dtype else "auto"
        )


def attach_adapter(model: Any, folder: Path) -> Any:
    """The model with an adapter of the configuration in `folder`, still without its weights.

    Raises:
        MissingDependencyError: peft is not installed.
    """
    try:
        import peft
    except ImportError as exc:
        raise MissingDependencyError(
            "evaluating adapters needs peft",
            kind=ErrorKind.MISSING_PACKAGE,
            facts={"package": "peft"},
        ) from exc
    with BUILDING, warnings.catch_warnings():
        # Advice about training, to people who only want a number.
        warnings.simplefilter("ignore")
        return peft.get_peft_model(model, peft.PeftConfig.from_pretrained(str(folder))).eval()


class config_directory:  # noqa: N801 - a context manager, used like a function
    """A temporary directory with the small plain files of a view: configuration and tokenizer."""

    def __init__(self, objects: ObjectStore, view: View) -> None:
        self._objects, self._view = objects, view
        self._folder = Path()

    def __enter__(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix="dvx-config-"))
        for file in self._view.files:
            if file.keys is None and file.size <= _SMALL_FILE and "/" not in file.path:
                data = file.data
                if data is None and file.blob is not None:
                    data = self._objects.blobs.read(file.blob, max_bytes=_SMALL_FILE)
                (self._folder / file.path).write_bytes(data or b"")
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
