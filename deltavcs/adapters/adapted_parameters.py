"""Which parameter the factors of a module adapt, and which way round it lies."""

from __future__ import annotations

from collections.abc import Sequence

from deltavcs.adapters.adapter_config import AdapterConfig
from deltavcs.adapters.adapter_keys import AdapterKey, Part
from deltavcs.adapters.base_weights import BaseWeights, Place
from deltavcs.skeleton.layers import lies_transposed, own_parameters, stacked_transposed


class AdaptedParameters:
    """The parameters that an adapter adapts, as PEFT finds them.

    Attributes:
        doubts: modules that are square, and of which nothing tells which way round they lie.
    """

    def __init__(self, config: AdapterConfig, base: BaseWeights) -> None:
        self._config, self._base = config, base
        self._certain: set[bool] = set()  # of the weights whose shapes tell it
        self.doubts: list[str] = []

    def parameter(self, module: str) -> str:
        """The whole name of the parameter that the factors of a module adapt."""
        key = AdapterKey(module, Part.A)
        plain = key.plain_module
        # PEFT wraps the first parameter of a module first, so the last one is outermost.
        adapted = [p for p in self._own(plain) if self.is_target(f"{plain}.{p}")][::-1]
        return f"{plain}.{adapted[key.depth] if key.depth < len(adapted) else 'weight'}"

    def is_target(self, name: str) -> bool:
        """Whether a parameter is adapted by itself, not as the weight of a layer (`target_parameters`)."""
        return any(ends_with(name, target) for target in self._config.target_parameters)

    def patterned(self, module: str, name: str) -> str:
        """What PEFT matches patterns of ranks with: the module, or a parameter adapted by itself."""
        return name if self.is_target(name) else AdapterKey(module, Part.A).plain_module

    def orientation(
        self,
        module: str,
        name: str,
        place: Place,
        sizes: tuple[tuple[int, int], tuple[int, int]],
        *,
        stacked: bool,
    ) -> bool | None:
        """Whether a weight is [in, out]; None if the factors do not fit it either way round.

        Args:
            module: as the adapter names it.
            name: the parameter.
            sizes: of B·A, and of the weight's matrix.
            stacked: it is one of a stack of experts.
        """
        made, weight = sizes
        fits = {t for t, size in ((False, made), (True, made[::-1])) if size == weight}
        if len(fits) == 1:
            self._certain |= fits
            return fits.pop()
        return self._square(module, name, place, stacked=stacked) if fits else None

    def _square(self, module: str, name: str, place: Place, *, stacked: bool) -> bool:
        skeleton = self._base.skeleton
        if skeleton is not None and place.memory is not None:
            if stacked:
                return stacked_transposed(skeleton, place.memory)
            if self.is_target(name):
                return False
            if (told := lies_transposed(skeleton, place.memory)) is not None:
                return told
        flag = self._config.fan_in_fan_out
        if stacked or self._certain - {flag}:
            self.doubts.append(module)
        return flag

    def _own(self, module: str) -> Sequence[str]:
        """The parameters of a module that may be adapted by themselves, in the order of the module."""
        leaves = list(dict.fromkeys(t.rpartition(".")[2] for t in self._config.target_parameters))
        skeleton = self._base.skeleton
        if not leaves or skeleton is None:
            return [leaf for leaf in leaves if f"{module}.{leaf}" in self._base.entries]
        if own := own_parameters(skeleton, module):
            return own
        memory = next((m for leaf in leaves if (m := self._base.memory_name(f"{module}.{leaf}"))), "")
        return own_parameters(skeleton, memory.rpartition(".")[0])


def ends_with(name: str, suffix: str) -> bool:
    """Whether a dotted name is another one, or ends in it."""
    return bool(suffix) and (name == suffix or name.endswith("." + suffix))
