"""Adapters of every type on a loaded model, by PEFT's own loading."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltavcs.checkpoint import layout
from deltavcs.checkpoint.materialize import load_state, load_tensors
from deltavcs.checkpoint.view import Content, View
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError, reason_of
from deltavcs.evaluation.models import read_small
from deltavcs.evaluation.swap import some_names
from deltavcs.objects.store import ObjectStore
from deltavcs.resources import Resources
from deltavcs.skeleton.skeleton import building

if TYPE_CHECKING:
    import torch

_NAME = "default"


class StoredAdapter:
    """A model with an adapter whose weights are exchanged for those of other adapters of its kind.

    Not thread-safe.

    Args:
        model: as `attach_adapter` gives it.

    Attributes:
        model: the model.
    """

    def __init__(self, objects: ObjectStore, model: Any, resources: Resources) -> None:
        self.model = model
        self._objects = objects
        self._resources = resources

    def load(self, contents: Mapping[str, Content]) -> int:
        """Exchange the weights; gives back how many tensors were decoded.

        Raises:
            InvalidInputError: `incompatible` if names or shapes are not the adapter's.
            IntegrityError: stored data is damaged.
        """
        stream = load_tensors(self._objects, contents.items(), device="cpu", resources=self._resources)
        set_weights(self.model, dict(stream))
        return len(contents)


def attach_adapter(objects: ObjectStore, model: Any, adapter: View, resources: Resources) -> Any:
    """The model with an adapter, as `PeftModel.from_pretrained` gives it.

    Args:
        model: the base, a transformers model.
        adapter: with its adapter_config.json.

    Returns:
        A `peft.PeftModel` in evaluation mode. `model` is part of it and changed.

    Raises:
        InvalidInputError: `bad-checkpoint` for a configuration that PEFT refuses; `incompatible` for weights
            that are missing, unknown or of another shape.
        MissingDependencyError: peft is not installed.
    """
    import_peft()
    state = load_state(objects, adapter, device="cpu", resources=resources)
    config = peft_config_of(objects, adapter)
    from peft.mapping import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
    from peft.peft_model import PeftModel

    wrapper = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
    try:
        with building():
            found = wrapper(model, config, _NAME)
    except Exception as exc:  # many types, all of them about the configuration or the base
        raise _incompatible(f"PEFT cannot attach the adapter: {_reason(exc)}") from exc
    set_weights(found, state)
    if hasattr(found.base_model, "_cast_adapter_dtype"):
        found.base_model._cast_adapter_dtype(adapter_name=_NAME, autocast_adapter_dtype=True)
    return found.eval()


def peft_config_of(objects: ObjectStore, adapter: View) -> Any:
    """An adapter's configuration as PEFT reads it, for inference.

    Raises:
        InvalidInputError: `bad-checkpoint` if PEFT refuses it.
        MissingDependencyError: peft is not installed.
    """
    peft = import_peft()
    raw = read_adapter_config(objects, adapter)
    with tempfile.TemporaryDirectory(prefix="dvx-adapter-") as name:
        (Path(name) / layout.ADAPTER_CONFIG).write_text(json.dumps(raw))
        try:
            with building():
                config = peft.PeftConfig.from_pretrained(name)
        except Exception as exc:  # many types, all of them about the file
            raise InvalidInputError(
                f"PEFT refuses adapter_config.json: {reason_of(exc)}", kind=ErrorKind.BAD_CHECKPOINT
            ) from exc
    config.inference_mode = True
    return config


def read_adapter_config(objects: ObjectStore, adapter: View) -> dict[str, Any]:
    """An adapter's configuration, without what would make PEFT reach for the base by its name.

    Raises:
        InvalidInputError: `bad-checkpoint` if there is none.
    """
    data = read_small(objects, adapter, layout.ADAPTER_CONFIG)
    try:
        config = json.loads(data or b"")
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError("adapter_config.json is malformed", kind=ErrorKind.BAD_CHECKPOINT) from exc
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise InvalidInputError("adapter_config.json names no peft_type", kind=ErrorKind.BAD_CHECKPOINT)
    return {**config, "base_model_name_or_path": None, "auto_mapping": None, "revision": None}


def set_weights(model: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Put an adapter's tensors into a model that has such an adapter.

    Args:
        model: a `peft.PeftModel`.
        state: names as in an adapter file → tensors.

    Raises:
        InvalidInputError: `incompatible` for weights that are missing, unknown or of another shape; the model
            may then hold a mixture.
    """
    peft = import_peft()
    from peft.utils.constants import PEFT_TYPE_TO_PREFIX_MAPPING

    try:
        with building():
            found = peft.set_peft_model_state_dict(model, dict(state), adapter_name=_NAME)
    except KeyError as exc:
        raise _incompatible(f"the adapter lacks {exc.args[0]}") from exc
    except (RuntimeError, ValueError, TypeError) as exc:
        raise _incompatible(_reason(exc)) from exc
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING.get(model.peft_config[_NAME].peft_type, "")
    if prefix:
        missing = [k for k in found.missing_keys if prefix in k and f".{_NAME}" in k]
        if missing:
            raise _incompatible(f"the adapter lacks {some_names([k.replace(f'.{_NAME}', '') for k in missing])}")
    if found.unexpected_keys:
        raise _incompatible(f"the model with the adapter has no {some_names(found.unexpected_keys)}")


def import_peft() -> Any:
    """The peft module. Raises MissingDependencyError."""
    try:
        import peft
    except ImportError as exc:
        raise MissingDependencyError(
            "loading adapters needs peft", kind=ErrorKind.MISSING_PACKAGE, facts={"package": "peft"}
        ) from exc
    return peft


def _reason(exc: Exception) -> str:
    """What PEFT and torch say of tensors that do not fit: the second line, after which model it is."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].endswith(":") else reason_of(exc)


def _incompatible(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.INCOMPATIBLE)
