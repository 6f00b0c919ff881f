"""transformers models of stored checkpoints, without a checkout in between."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltavcs.advice import Advice
from deltavcs.checkpoint import layout
from deltavcs.checkpoint.materialize import load_state, torch_dtype
from deltavcs.checkpoint.view import Content, View
from deltavcs.errors import ErrorKind, InvalidInputError, reason_of
from deltavcs.evaluation.architecture import architecture_digest
from deltavcs.evaluation.evaluator import is_out_of_memory
from deltavcs.evaluation.swap import some_names
from deltavcs.objects.store import ObjectStore
from deltavcs.resources import Resources
from deltavcs.skeleton.model_config import import_transformers, model_class, read_model_config
from deltavcs.skeleton.skeleton import build_skeleton, building
from deltavcs.skeleton.weight_names import Fit, check_fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

_SMALL_FILE = 64 << 20
_GENERATION_CONFIG = "generation_config.json"


def build_model(
    objects: ObjectStore,
    view: View,
    *,
    dtype: str | None = None,
    causal: bool = False,
    swapped: bool = False,
    resources: Resources,
) -> Any:
    """The model that a checkpoint's config.json describes, with the checkpoint's tensors, on the CPU.

    Equal to `from_pretrained` of a checkout, to the bit. What does not fit is found before anything is
    allocated. Memory holds the model and the tensors of one conversion.

    Args:
        dtype: of the parameters, as safetensors spells it; None for what the configuration says. Unlike
            `model.to`, it leaves buffers alone that no checkpoint holds, such as rotary frequencies.
        causal: as a causal language model; see `model_class`.
        swapped: its weights will be exchanged for those of others, which quantised ones cannot be.

    Returns:
        A `transformers.PreTrainedModel` in evaluation mode.

    Raises:
        InvalidInputError: `bad-checkpoint` without a config.json that transformers takes, or for weights that
            are missing, unknown or of another shape; names them.
        MissingDependencyError: torch or transformers is not installed.
    """
    data = check_model(objects, view, causal=causal, swapped=swapped)
    config = read_model_config(data)
    state = load_state(objects, view, device="cpu", resources=resources)
    lazily = _scheme(data) is None
    model = _load(config, state, _dtype_for(config, view.primary, dtype), causal=causal, lazily=lazily)
    _set_generation(model, read_small(objects, view, _GENERATION_CONFIG))
    return model


def check_model(objects: ObjectStore, view: View, *, causal: bool = False, swapped: bool = False) -> bytes:
    """Prove that a checkpoint's tensors are what its config.json asks for, without reading one.

    A quantised checkpoint is left to transformers, unless its weights will be exchanged.

    Returns:
        Its config.json.

    Raises:
        InvalidInputError: `bad-checkpoint` as `build_model`.
    """
    data = read_config(objects, view)
    quantised = _scheme(data)
    if quantised is None:
        refuse_misfit(fit_of(data, view, causal=causal))
    elif swapped:
        raise _bad(f"its weights are quantised ({quantised}), and cannot be exchanged for others")
    return data


def memory_key(objects: ObjectStore, view: View) -> str:
    """The same for checkpoints that become one causal language model in memory, whatever they call it.

    Raises:
        InvalidInputError: `bad-checkpoint` as `build_model` for a causal language model.
    """
    skeleton = build_skeleton(check_model(objects, view, causal=True, swapped=True), causal=True)
    return architecture_digest([skeleton.config.model_type, sorted(skeleton.shapes.items())])


def fit_of(config_json: bytes, view: View, *, causal: bool = False) -> Fit:
    """How a checkpoint's tensors fit the model of a config.json. Raises as `build_skeleton` does."""
    skeleton = build_skeleton(config_json, causal=causal)
    return check_fit(skeleton, {k: c.shape for k, c in view.primary.items()})


def refuse_misfit(fit: Fit) -> None:
    """Refuse a checkpoint that does not fit its config.json.

    Raises:
        InvalidInputError: `bad-checkpoint`; names the weights.
    """
    if prefix := _wrapper(fit):
        raise _bad(
            f"all names have {prefix!r} before them, as a wrapper saves them, and config.json knows of none"
        )
    if fit.missing:
        raise _bad(f"the checkpoint lacks {some_names(fit.missing)}")
    for name, (found, wanted) in fit.mismatched.items():
        raise _bad(f"{name} has shape {list(found)}, and config.json asks for {list(wanted)}")
    if fit.unexpected:
        raise _bad(f"the model of config.json has no {some_names(fit.unexpected)}")


def _wrapper(fit: Fit) -> str | None:
    """What stands before all names of a checkpoint saved through a wrapper (`module.`, `_orig_mod.`)."""
    parts = fit.unexpected[0].split(".") if fit.unexpected and fit.missing else []
    for n in range(1, len(parts)):
        prefix = ".".join(parts[:n]) + "."
        if {name.removeprefix(prefix) for name in fit.unexpected} >= set(fit.missing):
            return prefix
    return None


def _bad(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.BAD_CHECKPOINT)


class _Once:
    """A tensor that is given away when it is asked for, so that nobody holds it once it is in its place."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor: torch.Tensor | None = tensor

    def __getitem__(self, where: object) -> torch.Tensor:
        tensor, self._tensor = self._tensor, None
        assert tensor is not None
        return tensor


def _load(config: Any, state: dict[str, Any], dtype: torch.dtype, *, causal: bool, lazily: bool) -> Any:
    if lazily:
        for name, tensor in state.items():
            state[name] = _Once(tensor)
    try:
        with building():
            model, found = model_class(config, causal=causal).from_pretrained(
                None,
                config=config,
                state_dict=state,
                dtype=dtype,
                output_loading_info=True,
                trust_remote_code=False,
            )
    except (RuntimeError, ValueError, ImportError, TypeError, AttributeError) as exc:
        if is_out_of_memory(exc):
            raise
        raise _bad(f"transformers cannot load it: {reason_of(exc)}") from exc
    mismatched = {n: (tuple(a), tuple(b)) for n, a, b in found["mismatched_keys"]}
    refuse_misfit(Fit(tuple(sorted(found["missing_keys"])), (), mismatched))
    return model


def _dtype_for(config: Any, contents: Mapping[str, Content], asked: str | None) -> torch.dtype:
    """What `from_pretrained` takes: the configuration's dtype, else the first floating-point tensor's."""
    import torch

    if asked is not None:
        return torch_dtype(asked)
    if isinstance(getattr(config, "dtype", None), torch.dtype):
        return config.dtype  # type: ignore[no-any-return]
    found = (c.dtype for c in contents.values() if c.dtype in ("F64", "F32", "F16", "BF16"))
    return torch_dtype(next(found, "F32"))


def _set_generation(model: Any, data: bytes | None) -> None:
    """Give a model the settings of its generation_config.json, as `from_pretrained` of a folder does."""
    if data is None or not model.can_generate():
        return
    try:
        model.generation_config = import_transformers().GenerationConfig.from_dict(json.loads(data))
    except Exception as exc:  # many types, all of them about the file
        raise _bad(f"transformers refuses {_GENERATION_CONFIG}: {reason_of(exc)}") from exc


def _scheme(config_json: bytes) -> str | None:
    """How the weights are quantised, in the words of config.json."""
    try:
        raw = json.loads(config_json)
    except (ValueError, RecursionError):
        return None
    found = raw.get("quantization_config") if isinstance(raw, dict) else None
    if not isinstance(found, dict):
        return None
    return str(found.get("quant_method", "unknown scheme"))[:_SHOWN_SCHEME]


_SHOWN_SCHEME = 40


def read_config(objects: ObjectStore, view: View) -> bytes:
    """A checkpoint's config.json.

    Raises:
        InvalidInputError: `bad-checkpoint` if it has none.
    """
    import_transformers()
    data = read_small(objects, view, layout.CONFIG)
    if data is None:
        raise InvalidInputError(
            "the checkpoint has no config.json, so its architecture is not known",
            kind=ErrorKind.BAD_CHECKPOINT,
            advice=Advice.TENSORS_ALONE,
        )
    return data


def read_small(objects: ObjectStore, view: View, path: str) -> bytes | None:
    """The bytes of a plain file; None if there is none, or a very large one."""
    file = next((f for f in view.files if f.path == path and f.keys is None), None)
    if file is None or file.size > _SMALL_FILE:
        return None
    if file.data is not None or file.blob is None:
        return file.data or b""
    return objects.blobs.read(file.blob, max_bytes=_SMALL_FILE)


class config_directory:  # noqa: N801 - a context manager, used like a function
    """A temporary directory with the small plain files of a view: configuration and tokenizer."""

    def __init__(self, objects: ObjectStore, view: View) -> None:
        self._objects, self._view = objects, view
        self._folder = Path()

    def __enter__(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix="dvx-config-"))
        for file in self._view.files:
            if file.keys is None and file.size <= _SMALL_FILE and "/" not in file.path:
                data = read_small(self._objects, self._view, file.path)
                (self._folder / file.path).write_bytes(data or b"")
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
