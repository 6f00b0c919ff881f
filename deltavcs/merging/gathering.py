"""Statistics of several models for a merge, gathered one model after another and kept on disk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deltavcs.evaluation.encode import Sample
from deltavcs.evaluation.evaluator import Progress
from deltavcs.merging.statistics import diagonal_fisher, gram_matrices
from deltavcs.skeleton.skeleton import Skeleton
from deltavcs.skeleton.weight_names import WeightSource, match_names
from deltavcs.storage import translate_os_errors

if TYPE_CHECKING:
    import torch

_GRAM_ITEMSIZE = 4


class GatheredStatistics:
    """Statistics in files below a scratch folder; `deltavcs.merging.by_statistics.Statistics`.

    Args:
        folder: an empty folder; may be deleted after the merge.
        memory_bytes: Gram matrices held at once; layers that need more are gathered in several passes.
    """

    def __init__(self, folder: Path, *, memory_bytes: int) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._paths: dict[tuple[int, str], Path] = {}

    def read(self, model: int, key: str, start: int, count: int) -> npt.NDArray[np.float64] | None:
        """See `Statistics.read`."""
        path = self._paths.get((model, key))
        if path is None:
            return None
        with translate_os_errors(f"cannot read {path}"):
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
        return np.array(stored[start : start + count], dtype=np.float64)

    def gather(
        self,
        kind: str,
        position: int,
        model: Any,
        shapes: Mapping[str, Sequence[int]],
        samples: Sequence[Sample],
        *,
        progress: Progress | None = None,
    ) -> None:
        """Gather one model's statistics.

        Tensors that the model ties share their statistic, so that a merge leaves them equal.

        Args:
            kind: `fisher`, or `gram`: G = Xᵀ X / N, the mean over the model's N input rows X, so that every
                model has the same say however many rows it saw.
            position: of the model in the merge.
            shapes: of the checkpoint's tensors, by name. Those that loading puts together (the experts of a
                layer) get their parts of the parameter's Fisher information; they have no Gram matrix.
        """
        layout = _Layout(model, shapes)
        if kind == "fisher":
            found = diagonal_fisher(model, samples, progress=progress)
            self._save(position, layout.on_disk(found))
            return
        for group in self._gram_groups(model, layout.keys):
            grams = gram_matrices(model, samples, select=group.__contains__, progress=progress)
            means = {name: gram / grams.counts[name] for name, gram in grams.grams.items()}
            self._save(position, ((layout.keys[name], mean) for name, mean in means.items()))

    def _gram_groups(self, model: Any, names: Mapping[str, object]) -> Iterator[frozenset[str]]:
        """Linear layers whose Gram matrices fit into memory together."""
        import torch

        group: list[str] = []
        used = 0
        for name, module in model.named_modules():
            if not isinstance(module, torch.nn.Linear) or f"{name}.weight" not in names:
                continue
            need = _GRAM_ITEMSIZE * module.in_features**2
            if group and used + need > self._memory_bytes:
                yield frozenset(group)
                group, used = [], 0
            group.append(f"{name}.weight")
            used += need
        if group:
            yield frozenset(group)

    def _save(self, position: int, found: Iterable[tuple[Sequence[str], torch.Tensor]]) -> None:
        for keys, tensor in found:
            path = self._folder / f"{position}-{len(self._paths)}.npy"
            with translate_os_errors(f"cannot write {path}"):
                np.save(path, tensor.detach().reshape(-1).cpu().numpy(), allow_pickle=False)
            for key in keys:
                self._paths[position, key] = path


class _Layout:
    """Where a checkpoint's tensors are in a model's parameters.

    Attributes:
        keys: parameter → the tensors that it is, whole.
    """

    def __init__(self, model: Any, shapes: Mapping[str, Sequence[int]]) -> None:
        self._skeleton = Skeleton(model.config, model)
        self._shapes = shapes
        self._sources = match_names(self._skeleton, shapes).sources
        state = model.state_dict(keep_vars=True)
        first = {id(p): name for name, p in model.named_parameters()}
        self.keys: dict[str, list[str]] = {}
        for target, source in self._sources.items():
            if source.conversion is None and (name := first.get(id(state[target]))) is not None:
                self.keys.setdefault(name, []).append(source.names[0])

    def on_disk(self, found: Mapping[str, torch.Tensor]) -> Iterator[tuple[Sequence[str], torch.Tensor]]:
        """Tensors shaped like the parameters, as the checkpoint has them: one for each of its tensors.

        What does more than to rearrange the checkpoint's numbers has none.
        """
        for name, keys in self.keys.items():
            if name in found:
                yield keys, found[name]
        for target, source in self._sources.items():
            if source.conversion is not None:
                yield from (([key], part) for key, part in self._parted(target, source, found).items())

    def _parted(
        self, target: str, source: WeightSource, found: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """A parameter that was put together, taken apart: numbered elements show what went where."""
        import torch

        numbers, ends = [], [0]
        for key in source.names:
            ends.append(ends[-1] + math.prod(self._shapes[key]))
            numbers.append(torch.arange(ends[-2], ends[-1]).reshape(tuple(self._shapes[key])))
        flat, seen = torch.zeros(ends[-1]), torch.zeros(ends[-1], dtype=torch.bool)
        for name, places in source.convert(target, numbers, self._skeleton).items():
            if name not in found or places.dtype is not torch.int64 or places.shape != found[name].shape:
                return {}
            flat[places.reshape(-1)] = found[name].detach().reshape(-1).cpu().to(flat.dtype)
            seen[places.reshape(-1)] = True
        if not seen.all():
            return {}
        return {k: flat[a:b] for k, a, b in zip(source.names, ends, ends[1:], strict=False)}
