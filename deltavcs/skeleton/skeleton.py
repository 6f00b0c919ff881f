"""A model on torch's meta device: every module, name and shape, and no memory."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterator, Mapping
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


def build_skeleton(config_json: bytes) -> Skeleton:
    """Build the model that a config.json describes, without weights.

    Raises:
        InvalidInputError: `bad-checkpoint` as `read_model_config`, or if transformers cannot build it.
        MissingDependencyError: torch or transformers is not installed.
    """
    config = copy.deepcopy(read_model_config(config_json))
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    return Skeleton(config, _build(model_class(config), config))


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
    logging = import_transformers().utils.logging
    with BUILDING:
        shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
        logging.disable_progress_bar()
        logging.set_verbosity(logging.CRITICAL)
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if shown:
                logging.enable_progress_bar()


@lru_cache(maxsize=8)
def skeleton_of(config_json: bytes) -> Skeleton:
    """As `build_skeleton`, the last few kept: not to be changed by whoever gets one."""
    return build_skeleton(config_json)
