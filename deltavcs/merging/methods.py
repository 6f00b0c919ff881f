"""Every merge method: its parameters, its reference, its function. One table; nothing registers itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.arithmetic import plan_average, plan_task_arithmetic, plan_weighted
from deltavcs.merging.blocks import TensorSource
from deltavcs.merging.fisher import fisher_average
from deltavcs.merging.regmean import regmean
from deltavcs.merging.settings import DerivedPlan, Options, Parameter, Settings, resolve_settings
from deltavcs.merging.slerp import plan_slerp
from deltavcs.merging.sparse import plan_dare, plan_dare_ties, plan_ties
from deltavcs.operators.parse import MAX_SEED

Planner: TypeAlias = Callable[[TensorSource, Settings], DerivedPlan]

_LARGE = 1e6


@dataclass(frozen=True, slots=True)
class Method:
    """One way to merge.

    Attributes:
        name: as in options, commits and the command line.
        title: for people.
        reference: the paper.
        needs_base: True if input 0 of every tensor is the base.
        parameters: what it takes.
        plan: gives a tensor as a formula; None if the result is stored as bytes.
        compute: gives the array from arrays and statistics; None if `plan` is set.
        statistics: what `compute` needs per model: "fisher" (a diagonal of each tensor's shape) or "gram"
            (a matrix of each linear layer's inputs).
        least_models: fewest models, the base not counted.
        most_models: most models, the base not counted.
    """

    name: str
    title: str
    reference: str
    needs_base: bool
    parameters: tuple[Parameter, ...] = ()
    plan: Planner | None = None
    compute: Callable[..., Any] | None = None
    statistics: str | None = None
    least_models: int = 1
    most_models: int = 255

    @property
    def derived(self) -> bool:
        """True if results are stored as formulas, reproducible to the bit on every device."""
        return self.plan is not None


_SCALE = Parameter("scale", 1.0, -_LARGE, _LARGE, "λ, factor of the merged diff vector")
_WEIGHTS = Parameter("weights", 1.0, 0.0, _LARGE, "weight of each model", per_model=True)
_SIGNED = Parameter("weights", 1.0, -_LARGE, _LARGE, "factor of each diff vector", per_model=True)
_REQUIRED = Parameter(
    "weights", None, 0.0, _LARGE, "weight of each model, for example its score", per_model=True
)
_SEED = Parameter("seed", 0, 0, MAX_SEED, "of the random masks", integer=True)


def _density(default: float) -> Parameter:
    doc = "share of each diff vector that is kept"
    return Parameter("density", default, 1e-6, 1.0, doc, per_model=True)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "average",
            "Average",
            "Wortsman et al., Model soups, ICML 2022",
            needs_base=False,
            plan=plan_average,
        ),
        Method(
            "weighted",
            "Weighted average",
            "Wortsman et al., Model soups, ICML 2022",
            needs_base=False,
            parameters=(_REQUIRED,),
            plan=plan_weighted,
        ),
        Method(
            "task_arithmetic",
            "Task arithmetic",
            "Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023",
            needs_base=True,
            parameters=(_SIGNED, _SCALE),
            plan=plan_task_arithmetic,
        ),
        Method(
            "ties",
            "TIES",
            "Yadav et al., TIES-Merging, NeurIPS 2023",
            needs_base=True,
            parameters=(_WEIGHTS, _density(0.2), _SCALE),
            plan=plan_ties,
        ),
        Method(
            "dare",
            "DARE",
            "Yu et al., Language Models are Super Mario, ICML 2024",
            needs_base=True,
            parameters=(_SIGNED, _density(0.1), _SCALE, _SEED),
            plan=plan_dare,
        ),
        Method(
            "dare_ties",
            "DARE with TIES",
            "Yu et al., Language Models are Super Mario, ICML 2024",
            needs_base=True,
            parameters=(_WEIGHTS, _density(0.1), _SCALE, _SEED),
            plan=plan_dare_ties,
        ),
        Method(
            "slerp",
            "SLERP",
            "Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985",
            needs_base=False,
            parameters=(Parameter("t", 0.5, 0.0, 1.0, "0 is the first model, 1 the second"),),
            plan=plan_slerp,
            least_models=2,
            most_models=2,
        ),
        Method(
            "fisher",
            "Fisher-weighted average",
            "Matena & Raffel, Merging Models with Fisher-Weighted Averaging, NeurIPS 2022",
            needs_base=False,
            parameters=(
                _WEIGHTS,
                Parameter(
                    "floor", 1e-6, 0.0, _LARGE, "smallest Fisher information that counts", above_least=True
                ),
            ),
            compute=fisher_average,
            statistics="fisher",
        ),
        Method(
            "regmean",
            "RegMean",
            "Jin et al., Dataless Knowledge Fusion by Merging Weights of Language Models, ICLR 2023",
            needs_base=False,
            parameters=(
                Parameter("alpha", 0.9, 0.0, 1.0, "factor of the Gram matrices' off-diagonal elements"),
                Parameter("ridge", 1e-9, 0.0, 1.0, "pull towards the plain average, relative to the inputs"),
            ),
            compute=regmean,
            statistics="gram",
        ),
    )
}


def method_named(name: str) -> Method:
    """Return the method called `name`; hyphens count as underscores.

    Raises:
        InvalidInputError: `bad-argument` if there is none.
    """
    found = METHODS.get(name.replace("-", "_"))
    if found is None:
        raise InvalidInputError(
            f"no merge method {name!r}", kind=ErrorKind.BAD_ARGUMENT, hint="methods: " + ", ".join(METHODS)
        )
    return found


def settings_for(method: Method, options: Options, n_models: int) -> Settings:
    """Check a caller's options for a merge of `n_models` models, the base not counted.

    Raises:
        InvalidInputError: `bad-argument` for a count, a name or a value that the method does not take.
    """
    if not method.least_models <= n_models <= method.most_models:
        counts = f"{method.least_models} to {method.most_models}"
        raise InvalidInputError(
            f"{method.name} merges {counts} models, not {n_models}", kind=ErrorKind.BAD_ARGUMENT
        )
    return resolve_settings(method.name, method.parameters, options, n_models)
