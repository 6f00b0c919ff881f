"""Adapters of every type on the model they were trained on, by PEFT's own loading.

What a configuration names that is code or another checkpoint (`megatron_core`, `auto_mapping`, the base by
its name on the Hub) is taken out before PEFT sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deltavcs.adapters.adapter_config import parse_adapter_config
from deltavcs.checkpoint.layout import ADAPTER_CONFIG
from deltavcs.checkpoint.materialize import load_state, load_tensors
from deltavcs.checkpoint.view import Content, View
from deltavcs.errors import ErrorKind, InvalidInputError, reason_of
from deltavcs.evaluation.adapter_frame import (
    frame_of_adapter,
    import_peft,
    input_embedding,
    peft_config_of,
    resize_for,
)
from deltavcs.evaluation.adapter_names import spell_as_peft
from deltavcs.evaluation.models import build_model, read_small
from deltavcs.evaluation.swap import some_names
from deltavcs.objects.store import ObjectStore
from deltavcs.resources import Resources
from deltavcs.skeleton.skeleton import building

if TYPE_CHECKING:
    import torch

_NAME = "default"
# Initialisations that change the base by what a stored adapter does not say (`LoraLayer.update_layer`).
_LOST_STARTS = {
    "pissa_niter": "a decomposition that begins with random numbers",
    "lora_ga": "gradients that are not stored",
    "corda": "statistics of data that are not stored",
}


class StoredAdapter:
    """A model with an adapter whose weights are exchanged for those of other adapters of its kind.

    Not thread-safe.

    Args:
        model: as `load_adapted` gives it.

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


def load_adapted(
    objects: ObjectStore,
    below: View,
    adapter: View,
    *,
    dtype: str | None = None,
    causal: bool = False,
    resources: Resources,
) -> Any:
    """A base with an adapter, as `PeftModel.from_pretrained` gives it, on the CPU.

    The base is loaded as the adapter's task asks (with a classifier's head, which the adapter brings), and
    its embeddings get as many rows as the adapter's own. No weight is left at random values.

    Args:
        below: the base.
        adapter: with its adapter_config.json.
        dtype: as in `build_model`.
        causal: refuse an adapter that is none of a causal language model.

    Returns:
        A `peft.PeftModel` in evaluation mode.

    Raises:
        InvalidInputError: `bad-checkpoint` as `build_model`, or for a configuration that PEFT refuses;
            `incompatible` for weights that are missing, unknown or of another shape.
        MissingDependencyError: peft is not installed.
    """
    _refuse_lost_start(objects, adapter)
    import_peft()
    from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
    from peft.peft_model import PeftModel

    config = peft_config_of(objects, adapter)
    if causal and config.task_type not in (None, "CAUSAL_LM"):
        raise _bad(f"its adapter is for {config.task_type}, not for a causal language model")
    frame = frame_of_adapter(objects, below, adapter, config.task_type)
    model = build_model(objects, frame, dtype=dtype, causal=causal, resources=resources)
    resize_for(model, config, adapter)
    wrapper = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
    try:
        with building():
            found = wrapper(model, config, _NAME)
    except Exception as exc:  # many types, all of them about the configuration or the base
        raise _incompatible(f"PEFT cannot attach the adapter: {_reason(exc)}") from exc
    set_weights(found, load_state(objects, adapter, device="cpu", resources=resources))
    if hasattr(found.base_model, "_cast_adapter_dtype"):
        found.base_model._cast_adapter_dtype(adapter_name=_NAME, autocast_adapter_dtype=True)
    return found.eval()


def _refuse_lost_start(objects: ObjectStore, adapter: View) -> None:
    """Refuse an adapter whose base was changed when it began, in a way that is not done again by loading."""
    found = parse_adapter_config(read_small(objects, adapter, ADAPTER_CONFIG) or b"").initialisation
    why = next((why for start, why in _LOST_STARTS.items() if found.startswith(start)), None)
    if why is not None:
        raise _incompatible(
            f"the adapter was initialised by {found}, which changes the base by {why}; PEFT converts it to"
            " plain LoRA with save_pretrained(…, path_initial_model_for_weight_conversion=…)"
        )


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
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    embedded = input_embedding(model) is not None
    with building():
        known, more = (
            peft.get_peft_model_state_dict(model, adapter_name=_NAME, save_embedding_layers=both)
            for both in (False, embedded)
        )
    state = spell_as_peft(state, known.keys() | more.keys(), model.get_base_model())
    try:
        with building():
            found = peft.set_peft_model_state_dict(model, state, adapter_name=_NAME)
    except KeyError as exc:
        raise _incompatible(f"the adapter lacks {exc.args[0]}") from exc
    except (RuntimeError, ValueError, TypeError) as exc:
        raise _incompatible(_reason(exc)) from exc
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING.get(model.peft_config[_NAME].peft_type, "")
    own = (k.replace(f".{_NAME}", "") for k in found.missing_keys if prefix in k and f".{_NAME}" in k)
    # A weight that all layers share is missing in each of them, and is nowhere in a file.
    missing = [k for k in own if prefix and k in known]
    # Of embeddings that were resized and trained, PEFT writes copies that it does not read.
    unknown = [k for k in found.unexpected_keys if k not in known and k not in more]
    if missing:
        instead = f", and has {some_names(unknown)} instead" if unknown else ""
        raise _incompatible(f"the adapter lacks {some_names(missing)}{instead}")
    if unknown:
        raise _incompatible(f"the model with the adapter has no {some_names(unknown)}")


def _reason(exc: Exception) -> str:
    """What PEFT and torch say of tensors that do not fit: the second line, after which model it is."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].endswith(":") else reason_of(exc)


def _incompatible(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.INCOMPATIBLE)


def _bad(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.BAD_CHECKPOINT)
