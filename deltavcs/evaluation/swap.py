"""One loaded model, many checkpoints: new weights are copied into the parameters that are there.

N candidates cost one model load. Besides the model, memory holds the tensors of one conversion at a time (all
experts of a layer, where they are one parameter; else a single tensor), if values are given as functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.skeleton.skeleton import Skeleton
from deltavcs.skeleton.weight_names import WeightSource, match_names, minded

if TYPE_CHECKING:
    import torch

    Value = torch.Tensor | Callable[[], torch.Tensor]

_SHOWN = 5


def swap(model: Any, state: Mapping[str, Value]) -> None:
    """Copy `state` into the model's parameters and persistent buffers, in place.

    Dtype and device stay the model's own: values are converted on the way in, exactly as a fresh load in
    that dtype would. Not thread-safe.

    Args:
        model: a transformers model without adapters. Its dtype is given to `from_pretrained`:
            `model.to(bfloat16)` also rounds buffers that no checkpoint holds (rotary frequencies), and then
            no swap can equal a fresh load.
        state: checkpoint name → tensor, or a function that returns it; called once and dropped after copying.
            Names are those that `from_pretrained` takes.

    Raises:
        InvalidInputError: `incompatible` for unknown or missing names, or another shape. Names are checked
            before anything is written, and so are the shapes of tensors that are not functions; after any
            other failure the model is a mixture.
    """
    import torch

    exchange = Exchange(model, state)
    exchange.check_shapes({k: v for k, v in state.items() if isinstance(v, torch.Tensor)})
    exchange.write(lambda name: v if isinstance(v := state[name], torch.Tensor) else v(), state.keys())


class Exchange:
    """How the tensors of a checkpoint become the parameters of a loaded model. Not thread-safe.

    Names are those of `from_pretrained` (`deltavcs.skeleton.weight_names`); what transformers drops knowingly
    (`_keys_to_ignore_on_load_unexpected`) is left out. Weights that the model ties are written once; where
    the checkpoint holds both and they differ, they are tied no longer, as in a fresh load.

    Args:
        model: a transformers model without adapters.
        names: of all the checkpoint's tensors.

    Raises:
        InvalidInputError: `incompatible` for unknown or missing names.
    """

    def __init__(self, model: Any, names: Iterable[str]) -> None:
        self._model = model
        self._skeleton = Skeleton(model.config, model)
        found = match_names(self._skeleton, names)
        self.sources: Mapping[str, WeightSource] = found.sources
        missing, unknown = minded(self._skeleton, self._missing(), found.unknown)
        if unknown:
            raise _incompatible(f"the model has no {some_names(unknown)}")
        if missing:
            raise _incompatible(f"the checkpoint lacks {some_names(missing)}")

    def _missing(self) -> list[str]:
        """Names in memory that nothing is written to."""
        state = self._model.state_dict(keep_vars=True)
        made = {n for t, source in self.sources.items() for n in self._made_by(t, source)}
        covered = {id(state[n]) for n in made if n in state}
        return [n for n, t in state.items() if id(t) not in covered]

    def _made_by(self, target: str, source: WeightSource) -> Iterator[str]:
        if source.conversion is None or len(source.conversion.target_patterns) == 1:
            yield target
            return
        first = source.conversion.target_patterns[0]
        yield from (target.replace(first, pattern) for pattern in source.conversion.target_patterns)

    def affected(self, changed: Collection[str]) -> list[str]:
        """The tensors to be read if `changed` differ, in the order in which `write` takes them."""
        return [n for s in self.sources.values() if any(n in changed for n in s.names) for n in s.names]

    def check_shapes(self, state: Mapping[str, torch.Tensor]) -> None:
        """Refuse tensors of another shape than the model's. Raises InvalidInputError: `incompatible`."""
        for target, source in self.sources.items():
            if all(n in state for n in source.names):
                empty = [state[n].to("meta") for n in source.names]
                for name, value in source.convert(target, empty, self._skeleton).items():
                    _check_shape(name, value, self._at(name))

    def write(self, take: Callable[[str], torch.Tensor], names: Collection[str]) -> None:
        """Copy tensors of the checkpoint into the model.

        Args:
            take: gives a tensor by its name on disk; called once each, in the order of `affected`.
            names: as from `affected`.

        Raises:
            InvalidInputError: `incompatible` for another shape; the model is then a mixture.
        """
        import torch

        pending = {t for t, source in self.sources.items() if source.names[0] in names}
        with torch.no_grad():
            for target, source in self.sources.items():
                if target not in pending:
                    continue
                dtype = self._at(target).dtype
                # As a fresh load does it: rounded first, then put together.
                values = [take(n).to(dtype) for n in source.names]
                made = source.convert(target, values, self._skeleton)
                del values
                pending.discard(target)
                for name in list(made):
                    self._put(name, made.pop(name), pending)

    def _put(self, name: str, value: torch.Tensor, pending: Collection[str]) -> None:
        """Write one parameter, which may have to part from another that it shares its memory with.

        Args:
            pending: what is yet to be written.
        """
        import torch

        held = self._at(name)
        _check_shape(name, value, held)
        twins = [n for n in self._tied_with(name) if n in self.sources and self._at(n) is held]
        if not twins or any(n in pending for n in twins):
            held.copy_(value)
        elif not torch.equal(held, value.to(held.device)):
            self._untie(name, value)

    def _tied_with(self, name: str) -> Iterator[str]:
        tied: Mapping[str, str] = self._model.all_tied_weights_keys
        first = tied.get(name, name)
        yield from (n for n in (first, *(k for k, v in tied.items() if v == first)) if n != name)

    def _untie(self, name: str, value: torch.Tensor) -> None:
        """Give a parameter a value of its own."""
        import torch

        held = self._at(name)
        own = torch.nn.Parameter(value.to(held.device), requires_grad=held.requires_grad)
        path, _, leaf = name.rpartition(".")
        setattr(self._model.get_submodule(path), leaf, own)
        tied = self._model.all_tied_weights_keys
        for key in [k for k, v in tied.items() if name in (k, v)]:
            del tied[key]

    def _at(self, name: str) -> torch.Tensor:
        found: torch.Tensor = self._model.get_parameter_or_buffer(name)
        return found


def some_names(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _check_shape(name: str, value: torch.Tensor, target: torch.Tensor) -> None:
    # copy_ would broadcast a smaller tensor without a word.
    if value.shape != target.shape:
        raise _incompatible(f"{name} has shape {list(value.shape)}, but the model's has {list(target.shape)}")


def _incompatible(message: str) -> InvalidInputError:
    return InvalidInputError(message, kind=ErrorKind.INCOMPATIBLE)
