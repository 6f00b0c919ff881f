"""What a merge method asks for, and what a caller's options come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError

Options: TypeAlias = Mapping[str, object]
"""Options by parameter name: a number, or for per-model parameters a number or one number per model."""


@dataclass(frozen=True, slots=True)
class MergeMethod:
    """How to merge, as a caller chooses it.

    Attributes:
        name: a key of `deltavcs.merging.methods.MERGE_METHODS`.
        options: the method's parameters by name, such as `weights`, `density`, `scale`, `seed`.
        base: revision that diff vectors are taken from; None for the nearest that all were made from.
        exact: merge adapters through their products instead of factor by factor.
        rank: with `exact`, rank of the result; None for the sum of the ranks, which loses nothing.
    """

    name: str = "average"
    options: Options = field(default_factory=dict)
    base: str | None = None
    exact: bool = False
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        name: as in `Settings` and in options.
        default: used when the option is absent; None makes the option compulsory.
        least: smallest value allowed.
        most: largest value allowed.
        doc: one line for people.
        per_model: True if each merged model has its own.
        integer: True if fractions are refused.
        above_least: True if `least` itself is refused.
    """

    name: str
    default: float | None
    least: float
    most: float
    doc: str
    per_model: bool = False
    integer: bool = False
    above_least: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Every option of a merge, checked; those a method does not have keep their defaults.

    Attributes:
        weights: w_i, one per model.
        density: share of each diff vector that is kept, one per model.
        scale: λ.
        seed: of the random masks.
        t: position between two models.
        floor: smallest Fisher information that counts.
        alpha: factor of the off-diagonal elements of the Gram matrices.
        ridge: pull towards the plain average, relative to the mean of the Gram diagonals.
    """

    weights: tuple[float, ...] = ()
    density: tuple[float, ...] = ()
    scale: float = 1.0
    seed: int = 0
    t: float = 0.5
    floor: float = 1e-6
    alpha: float = 0.9
    ridge: float = 1e-9


@dataclass(frozen=True, slots=True)
class DerivedPlan:
    """A merged tensor as a formula: what the store keeps in place of bytes.

    Attributes:
        op: name of a derived operator.
        params: its parameters, ready for canonical JSON.
    """

    op: str
    params: Mapping[str, object] = field(default_factory=dict)


def resolve_settings(
    method: str, parameters: Sequence[Parameter], options: Options, n_models: int
) -> Settings:
    """Check options against the parameters of a method and fill in the defaults.

    Args:
        method: its name, for messages.
        parameters: what it takes.
        options: what the caller gives.
        n_models: how many models are merged, the base not counted.

    Raises:
        InvalidInputError: `bad-argument` for unknown names, wrong types, counts or values out of range.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name in options:
        if name not in known:
            raise _unknown(method, name, known)
    values: dict[str, Any] = {}
    for parameter in parameters:
        given = options.get(parameter.name)
        given = parameter.default if given is None else given
        if given is None:
            raise _bad(f"{method} needs {parameter.name}", parameter)
        if parameter.per_model:
            values[parameter.name] = _per_model(parameter, given, n_models)
        else:
            values[parameter.name] = _check(parameter, given)
    return Settings(**values)


def _per_model(parameter: Parameter, given: object, n_models: int) -> tuple[float, ...]:
    if isinstance(given, (list, tuple)):
        if len(given) != n_models:
            raise _bad(f"{len(given)} values of {parameter.name} for {n_models} models", parameter)
        return tuple(_check(parameter, item) for item in given)
    return (_check(parameter, given),) * n_models


def _check(parameter: Parameter, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _bad(f"{parameter.name} is a number, not {value!r:.80}", parameter)
    if parameter.integer and not isinstance(value, int):
        raise _bad(f"{parameter.name} is a whole number, not {value}", parameter)
    number = value if parameter.integer else float(value)
    inside = parameter.least <= number <= parameter.most and math.isfinite(number)
    if not inside or (parameter.above_least and number == parameter.least):
        bracket = "(" if parameter.above_least else "["
        allowed = f"{bracket}{parameter.least}, {parameter.most}]"
        raise _bad(f"{parameter.name} = {value} is outside {allowed}", parameter)
    return number


def _unknown(method: str, name: str, known: Mapping[str, Parameter]) -> InvalidInputError:
    return InvalidInputError(
        f"{method} has no parameter {name!r}",
        kind=ErrorKind.BAD_ARGUMENT,
        advice=Advice.MERGE_PARAMETERS,
        facts={"parameters": ", ".join(known) or "none"},
    )


def _bad(message: str, parameter: Parameter) -> InvalidInputError:
    return InvalidInputError(
        message,
        kind=ErrorKind.BAD_ARGUMENT,
        advice=Advice.MERGE_PARAMETER,
        facts={"parameter": parameter.name, "meaning": parameter.doc},
    )
