"""Every merge method: what it is called, what it takes, where it comes from. One table, cheap to import.

To add a method, give it a row here and a function: in `deltavcs.merging.formulas.PLANNERS` if its result is a
formula, in `deltavcs.merging.by_statistics.MERGERS` if it needs statistics of a task. The command line's
options follow from the table; its equation stands in `docs/merging.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.brief import brief
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.settings import Options, Parameter, Settings, resolve_settings
from deltavcs.operators.limits import MAX_SEED

_LARGE = 1e6


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """One way to merge.

    Attributes:
        name: as in options, commits and the command line.
        reference: the paper.
        needs_base: True if input 0 of every tensor is the base.
        parameters: what it takes.
        statistics: what it needs of every model: "fisher" (a diagonal of each tensor's shape) or "gram" (a
            matrix of each linear layer's inputs). Its results are then stored as bytes. None if results are
            stored as formulas, reproducible to the bit on every device.
        least_models: fewest models, the base not counted.
        most_models: most models, the base not counted.
    """

    name: str
    reference: str
    needs_base: bool
    parameters: tuple[Parameter, ...] = ()
    statistics: str | None = None
    least_models: int = 1
    most_models: int = 255

    __repr__ = brief

    @property
    def masked(self) -> bool:
        """True if it drops elements at random, by masks that a seed draws."""
        return any(parameter.name == "seed" for parameter in self.parameters)


_SCALE = Parameter("scale", 1.0, -_LARGE, _LARGE, "factor of the merged diff vector")
_WEIGHTS = Parameter("weights", 1.0, 0.0, _LARGE, "weight of each model, or one for all", per_model=True)
_SIGNED = Parameter("weights", 1.0, -_LARGE, _LARGE, "factor of each diff vector", per_model=True)
_REQUIRED = Parameter("weights", None, 0.0, _LARGE, "weight of each model, or one for all", per_model=True)
_SEED = Parameter("seed", 0, 0, MAX_SEED, "draws the random masks", integer=True)


def _density(default: float) -> Parameter:
    doc = "share of each diff vector that is kept"
    return Parameter("density", default, 1e-6, 1.0, doc, per_model=True)


MERGE_METHODS: dict[str, MethodInfo] = {
    method.name: method
    for method in (
        MethodInfo(
            "average",
            "Wortsman et al., Model soups, ICML 2022",
            needs_base=False,
        ),
        MethodInfo(
            "weighted",
            "Wortsman et al., Model soups, ICML 2022",
            needs_base=False,
            parameters=(_REQUIRED,),
        ),
        MethodInfo(
            "task_arithmetic",
            "Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023",
            needs_base=True,
            parameters=(_SIGNED, _SCALE),
        ),
        MethodInfo(
            "ties",
            "Yadav et al., TIES-Merging, NeurIPS 2023",
            needs_base=True,
            parameters=(_WEIGHTS, _density(0.2), _SCALE),
        ),
        MethodInfo(
            "dare",
            "Yu et al., Language Models are Super Mario, ICML 2024",
            needs_base=True,
            parameters=(_SIGNED, _density(0.1), _SCALE, _SEED),
        ),
        MethodInfo(
            "dare_ties",
            "Yu et al., Language Models are Super Mario, ICML 2024",
            needs_base=True,
            parameters=(_WEIGHTS, _density(0.1), _SCALE, _SEED),
        ),
        MethodInfo(
            "slerp",
            "Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985",
            needs_base=False,
            parameters=(Parameter("t", 0.5, 0.0, 1.0, "0 is the first model, 1 the second"),),
            least_models=2,
            most_models=2,
        ),
        MethodInfo(
            "fisher",
            "Matena & Raffel, Merging Models with Fisher-Weighted Averaging, NeurIPS 2022",
            needs_base=False,
            parameters=(
                _WEIGHTS,
                Parameter("floor", 1e-6, 0.0, _LARGE, "smallest information that counts", above_least=True),
            ),
            statistics="fisher",
        ),
        MethodInfo(
            "regmean",
            "Jin et al., Dataless Knowledge Fusion by Merging Weights of Language Models, ICLR 2023",
            needs_base=False,
            parameters=(
                Parameter("alpha", 0.9, 0.0, 1.0, "factor of the off-diagonal elements"),
                Parameter("ridge", 1e-9, 0.0, 1.0, "pull towards the average"),
            ),
            statistics="gram",
        ),
    )
}


def method_named(name: str) -> MethodInfo:
    """Return the method called `name`; hyphens count as underscores.

    Raises:
        InvalidInputError: `bad-argument` if there is none.
    """
    found = MERGE_METHODS.get(name.replace("-", "_"))
    if found is None:
        raise InvalidInputError(
            f"no merge method {name!r}",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.MERGE_METHODS,
            facts={"methods": ", ".join(MERGE_METHODS)},
        )
    return found


def settings_for(method: MethodInfo, options: Options, n_models: int) -> Settings:
    """Check a caller's options for a merge of `n_models` models, the base not counted.

    Raises:
        InvalidInputError: `bad-argument` for a count, a name or a value that the method does not take.
    """
    if not method.least_models <= n_models <= method.most_models:
        least, most = method.least_models, method.most_models
        counts = str(least) if least == most else f"{least} to {most}"
        raise InvalidInputError(
            f"{method.name} merges {counts} models, not {n_models}", kind=ErrorKind.BAD_ARGUMENT
        )
    return resolve_settings(method.name, method.parameters, options, n_models)
