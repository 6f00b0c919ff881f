"""What an adapter needs of its base before PEFT attaches it: the model of its task, rows for its tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from deltavcs.adapters.adapter_keys import plain_name
from deltavcs.checkpoint import layout
from deltavcs.checkpoint.view import Content, View, ViewFile
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError, reason_of
from deltavcs.evaluation.models import config_directory, fit_of, read_config, read_small
from deltavcs.objects.store import ObjectStore
from deltavcs.skeleton.heads import for_task
from deltavcs.skeleton.model_config import model_class, read_model_config
from deltavcs.skeleton.skeleton import building, quiet

PREFIX = "base_model.model."
# Settings that are a side of a weight, and those by which PEFT imports a module or reads another checkpoint.
_SIZES = frozenset("r init_r target_r num_virtual_tokens adapter_len num_vectors vector_length".split())
_NAMES_OTHERS = (
    "base_model_name_or_path auto_mapping revision megatron_config megatron_core adapters"
    " tokenizer_name_or_path"
).split()


def import_peft() -> Any:
    """The peft module. Raises MissingDependencyError."""
    try:
        with quiet():
            import peft
    except ImportError as exc:
        raise MissingDependencyError(
            "loading adapters needs peft", kind=ErrorKind.MISSING_PACKAGE, facts={"package": "peft"}
        ) from exc
    return peft


def peft_config_of(objects: ObjectStore, adapter: View) -> Any:
    """An adapter's configuration as PEFT reads it, for inference.

    Returns:
        A `peft.PeftConfig` of the adapter's type.

    Raises:
        InvalidInputError: `bad-checkpoint` if there is none, if PEFT refuses it, if it asks for larger
            weights than there are, or if it is made of other adapters (X-LoRA).
        MissingDependencyError: peft is not installed.
    """
    peft = import_peft()
    raw = _raw_config(objects, adapter)
    with config_directory(objects, adapter) as folder:
        (folder / layout.ADAPTER_CONFIG).write_text(json.dumps(raw))
        try:
            with building():
                config = peft.PeftConfig.from_pretrained(str(folder))
        except Exception as exc:  # many types, all of them about the file
            raise _bad(f"PEFT refuses adapter_config.json: {reason_of(exc)}") from exc
    config.inference_mode = True
    return config


def _raw_config(objects: ObjectStore, adapter: View) -> dict[str, Any]:
    data = read_small(objects, adapter, layout.ADAPTER_CONFIG)
    if data is None:
        raise _bad("the adapter has no adapter_config.json")
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise _bad("adapter_config.json is malformed") from exc
    if not isinstance(config, dict):
        raise _bad("adapter_config.json is no object")
    config = {"peft_type": "LORA"} | {k: v for k, v in config.items() if k not in _NAMES_OTHERS}
    if config["peft_type"] == "XLORA":
        raise _bad("an X-LoRA adapter is made of others, which it only names; it can be checked out")
    if not adapter.primary:
        raise _bad("the adapter holds no tensors")
    most = max((n for c in adapter.primary.values() for n in c.shape), default=0)
    for name, size in _sizes(config):
        if size > most:
            raise _bad(f"adapter_config.json says {name} = {size}, and no tensor has so many rows or columns")
    return config


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in config.items():
        if name in _SIZES and isinstance(value, int):
            yield name, value
        if name == "rank_pattern" and isinstance(value, dict):
            yield from ((name, n) for n in value.values() if isinstance(n, int))


def frame_of_adapter(objects: ObjectStore, below: View, adapter: View, task: str | None) -> View:
    """The base as the adapter's task needs it: another head, with the adapter's own weights in it.

    A causal language model or a bare encoder below a classifier's adapter has no such head; PEFT saves it
    whole with the adapter. Weights of a head that the task's model does not have are left out.

    Args:
        task: PEFT's word for what the adapter is for, such as `SEQ_CLS`; None for whatever the base is.

    Raises:
        InvalidInputError: `bad-checkpoint` if transformers has no model of this type for the task.
    """
    config = read_model_config(read_config(objects, below))
    named = _class_for(task, config) or _trained_class(objects, below, adapter, task)
    if named is None or named in (getattr(config, "architectures", None) or ()):
        return below
    own = {k.removeprefix(PREFIX): c for k, c in adapter.primary.items()}
    settings = json.loads(read_config(objects, below)) | {"architectures": [named]}
    fit = fit_of(json.dumps(settings).encode(), below)
    heads = {name: own[name] for name in fit.missing if name in own}
    rows = {c.shape[0] for c in heads.values() if c.shape}
    if named.endswith("Classification") and len(rows) == 1:
        settings = {k: v for k, v in settings.items() if k not in ("id2label", "label2id")}
        settings |= {"num_labels": rows.pop()}
    kept = {k: c for k, c in below.tensors.items() if k not in fit.unexpected}
    return replace(below, files=_with_config(below, settings), tensors={**kept, **heads})


def _with_config(view: View, settings: dict[str, Any]) -> tuple[ViewFile, ...]:
    data = json.dumps(settings).encode()
    return tuple(
        replace(f, data=data, size=len(data), blob=None) if f.path == layout.CONFIG else f for f in view.files
    )


def _class_for(task: str | None, config: Any) -> str | None:
    """The class of transformers for PEFT's word for a task; None for whatever the base is."""
    from peft import auto

    if task == "CAUSAL_LM":
        return str(model_class(config, causal=True).__name__)
    wrapper = auto.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(task)
    if wrapper is None or task == "FEATURE_EXTRACTION":
        return None
    classes: list[Any] = [c for c in vars(auto).values() if hasattr(c, "_target_peft_class")]
    mapping = next(c._target_class for c in classes if c._target_peft_class is wrapper)._model_mapping
    if type(config) not in mapping:
        raise _bad(f"transformers has no {config.model_type} for {task}")
    found = mapping[type(config)]
    return str((found[0] if isinstance(found, tuple) else found).__name__)


def resize_for(model: Any, config: Any, adapter: View) -> None:
    """Give the base's embeddings as many rows as the adapter's own have, which replace them.

    Raises:
        InvalidInputError: `incompatible` if the adapter brings some of the new rows only.
    """
    embedding = input_embedding(model)
    if embedding is None:
        return
    name = next(n for n, p in model.named_parameters() if p is embedding)
    rows = embedding.shape[0]
    wanted = max((c.shape[0] for c in _own_rows(adapter, name)), default=rows)
    trained = _trained_rows(config)
    wanted = max(wanted, max(trained, default=-1) + 1)
    if wanted == rows:
        return
    if not any(c.shape[0] == wanted for c in _own_rows(adapter, name)) and not trained >= set(
        range(rows, wanted)
    ):
        raise InvalidInputError(
            f"the adapter has {wanted} tokens, its base {rows}, and it brings no embeddings for the others",
            kind=ErrorKind.INCOMPATIBLE,
        )
    with building():
        model.resize_token_embeddings(wanted, mean_resizing=False)


def _trained_class(objects: ObjectStore, below: View, adapter: View, task: str | None) -> str | None:
    """The class that an adapter was trained in, where its configuration or its names tell; else None."""
    raw = json.loads(read_small(objects, adapter, layout.ADAPTER_CONFIG) or b"{}")
    mapping, settings = raw.get("auto_mapping"), read_config(objects, below)
    named = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    if task is None and isinstance(named, str):
        return named if for_task(settings, None, named) is not None else None
    bare = for_task(settings, task, None) if task == "FEATURE_EXTRACTION" else None
    if bare is None:
        return None
    found = model_class(read_model_config(bare))
    whole = any(plain_name(k).startswith(f"{found.base_model_prefix}.") for k in adapter.primary)
    return None if whole else str(found.__name__)


def input_embedding(model: Any) -> Any:
    """The weight of a model's input embeddings, a row for each token; None if it takes no tokens (ViT)."""
    try:
        found = getattr(model.get_input_embeddings(), "weight", None)
    except (NotImplementedError, AttributeError):  # what transformers says of models that have none, or two
        return None
    return found if found is not None and found.dim() == 2 else None


def _own_rows(adapter: View, name: str) -> Iterator[Content]:
    """The adapter's own copies of the embedding `name`, trained or resized."""
    module = name.removesuffix(".weight")
    spellings = {f"{PREFIX}{module}{part}.weight" for part in ("", ".base_layer", ".modules_to_save")}
    yield from (c for k, c in adapter.primary.items() if k in spellings and len(c.shape) == 2)


def _trained_rows(config: Any) -> set[int]:
    found = getattr(config, "trainable_token_indices", None) or getattr(config, "token_indices", None)
    groups = found.values() if isinstance(found, dict) else [found or ()]
    return {i for group in groups for i in group if isinstance(i, int)}


def _bad(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.BAD_CHECKPOINT)
