"""Statistics of several models for a merge, gathered one model after another and kept on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deltavcs.evaluation.encode import Sample
from deltavcs.evaluation.evaluator import Progress
from deltavcs.evaluation.swap import find_target, swap_targets
from deltavcs.merging.statistics import diagonal_fisher, gram_matrices
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
        keys: Iterable[str],
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
            keys: tensors of the checkpoint.
        """
        parameters = {id(p): name for name, p in model.named_parameters()}
        targets = swap_targets(model)
        names: dict[str, list[str]] = {}
        for key in keys:
            target = find_target(model, targets, key)
            if target is not None and id(target) in parameters:
                names.setdefault(parameters[id(target)], []).append(key)
        if kind == "fisher":
            found = diagonal_fisher(model, samples, progress=progress)
            self._save(position, found, names)
            return
        for group in self._gram_groups(model, names):
            grams = gram_matrices(model, samples, select=group.__contains__, progress=progress)
            means = {name: gram / grams.counts[name] for name, gram in grams.grams.items()}
            self._save(position, means, names)

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

    def _save(
        self, position: int, found: Mapping[str, torch.Tensor], names: Mapping[str, Sequence[str]]
    ) -> None:
        for name, tensor in found.items():
            if name not in names:
                continue
            path = self._folder / f"{position}-{len(self._paths)}.npy"
            with translate_os_errors(f"cannot write {path}"):
                np.save(path, tensor.detach().reshape(-1).cpu().numpy(), allow_pickle=False)
            for key in names[name]:
                self._paths[position, key] = path
