"""A model on torch's meta device: every module, name and shape, and no memory."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from deltavcs.errors import ErrorKind, InvalidInputError, reason_of
from deltavcs.skeleton.model_config import import_transformers, model_class, read_model_config

# transformers and peft swap functions and defaults of the whole process while they build a model (tied
# weights, initialisers, the default dtype). Two threads at it at once leave the wrong ones behind, and every
# model built afterwards is wrong.
BUILDING = threading.Lock()

Shape = tuple[int, ...]

# GPT-J keeps a mask of 2048 x 2048 in each of 28 layers, 112 MiB; others keep a table of rotary positions.
_MAX_BUFFER_BYTES = 4 << 30


@dataclass(frozen=True)
class Skeleton:
    """A transformers model without weights.

    Attributes:
        config: its configuration, without `quantization_config`: the model of the weights before they were
            quantised.
        model: a `transformers.PreTrainedModel` on the meta device.
    """

    config: Any
    model: Any

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Name in memory → shape of every parameter and persistent buffer, tied names included."""
        return {name: tuple(t.shape) for name, t in self.model.state_dict().items()}

    @cached_property
    def buffers(self) -> frozenset[str]:
        """Name in memory of every buffer, persistent or not."""
        return frozenset(name for name, _ in self.model.named_buffers())

    @cached_property
    def tied(self) -> Mapping[str, str]:
        """Name in memory of every parameter that the model ties → the name of the one that it is tied to."""
        return dict(getattr(self.model, "all_tied_weights_keys", None) or {})

    def module_of(self, weight: str) -> Any:
        """The module that holds a parameter, such as `torch.nn.Linear` or transformers' `Conv1D`.

        Args:
            weight: name in memory, such as `model.layers.0.mlp.up_proj.weight`.

        Returns:
            The module, or None if the model has none there.
        """
        path = weight.rpartition(".")[0]
        try:
            return self.model.get_submodule(path)
        except AttributeError:
            return None


def build_skeleton(config_json: bytes, *, causal: bool = False) -> Skeleton:
    """Build the model that a config.json describes, without weights.

    Args:
        causal: as in `model_class`.

    Raises:
        InvalidInputError: `bad-checkpoint` as `read_model_config` and `model_class`, if transformers cannot
            build it, or if its buffers that no checkpoint holds (masks, positions) would be absurdly large.
        MissingDependencyError: torch or transformers is not installed.
    """
    with building():  # transformers has much to say of ids of tokens
        config = copy.deepcopy(read_model_config(config_json))
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    skeleton = Skeleton(config, _build(model_class(config, causal=causal), config))
    _check_buffers(skeleton)
    return skeleton


def _check_buffers(skeleton: Skeleton) -> None:
    n_bytes = sum(b.numel() * b.element_size() for b in skeleton.model.buffers())
    if n_bytes > _MAX_BUFFER_BYTES:
        raise InvalidInputError(
            f"the model of config.json has {n_bytes >> 20} MiB of buffers,"
            f" more than {_MAX_BUFFER_BYTES >> 20} MiB",
            kind=ErrorKind.BAD_CHECKPOINT,
        )


def _build(model_type: Any, config: Any) -> Any:
    import torch

    with building(), torch.device("meta"):
        try:
            return model_type(config)
        except Exception as exc:  # many types, all of them about the configuration
            raise InvalidInputError(
                f"transformers cannot build the model of config.json: {reason_of(exc)}",
                kind=ErrorKind.BAD_CHECKPOINT,
            ) from exc


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Let transformers build or load a model: one thread at a time, and nothing on stderr."""
    with quiet(), BUILDING:
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what transformers, peft and torch say from the terminal, as long as any thread is in here."""
    spoken = import_transformers().utils.logging
    with _SPEAKING:
        _HUSHED.append(_hush(spoken) if not _HUSHED else None)
    try:
        yield
    finally:
        with _SPEAKING:
            # The first to come leaves what there was before; the last to go puts it back.
            if len(_HUSHED) > 1:
                _HUSHED.pop()
            elif (restore := _HUSHED.pop()) is not None:
                restore()


_SPEAKING = threading.Lock()
_HUSHED: list[Callable[[], None] | None] = []


def _hush(spoken: Any) -> Callable[[], None]:
    """Silence `transformers.utils.logging`, bitsandbytes and all warnings; gives what undoes it."""
    shown, level = spoken.is_progress_bar_enabled(), spoken.get_verbosity()
    spoken.disable_progress_bar()
    spoken.set_verbosity(logging.CRITICAL)
    kernels = logging.getLogger("bitsandbytes")
    before = kernels.level
    kernels.setLevel(logging.CRITICAL)
    caught = warnings.catch_warnings()
    caught.__enter__()
    warnings.simplefilter("ignore")

    def restore() -> None:
        caught.__exit__(None, None, None)
        kernels.setLevel(before)
        spoken.set_verbosity(level)
        if shown:
            spoken.enable_progress_bar()

    return restore


@lru_cache(maxsize=8)
def skeleton_of(config_json: bytes) -> Skeleton:
    """As `build_skeleton`, the last few kept: not to be changed by whoever gets one."""
    return build_skeleton(config_json)
