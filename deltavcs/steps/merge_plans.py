"""Planning a merge: what is asked is checked before anything is read or run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.history.ancestors import common_base
from deltavcs.merging.alignment import MergeInput
from deltavcs.merging.methods import MethodInfo, method_named, settings_for
from deltavcs.merging.settings import MergeMethod
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId, is_oid
from deltavcs.repo import Repository
from deltavcs.steps.naming import name_of
from deltavcs.steps.operands import Operands, open_operands


@dataclass(frozen=True, slots=True)
class MergePlan:
    """A merge whose arguments were checked.

    Attributes:
        method: from the table of methods.
        asked: how the caller wants it.
        parameters: as they will be used.
        operands: the models as they are computed with, and the base after them if there is one.
    """

    method: MethodInfo
    asked: MergeMethod
    parameters: Mapping[str, object]
    inputs: tuple[CommitId, ...]
    models: tuple[MergeInput, ...]
    base: CommitId | None
    is_adapter: bool
    operands: Operands

    @property
    def recipe(self) -> str:
        """What is merged how, as text with full commit ids; sums are written as expressions."""
        return _recipe(self.method, self.inputs, self.base, self.parameters)


def plan_merge(
    repo: Repository, revisions: Sequence[str], asked: MergeMethod, *, dequantize: bool = False
) -> MergePlan:
    """Check what is asked, before anything is read.

    Args:
        dequantize: compute with the weights that quantised checkpoints stand for; not for methods that run
            models.

    Raises:
        NotFoundError: an unknown revision.
        InvalidInputError: `incompatible`; `base-unknown`; `bad-argument` for options; `quantised`.
    """
    method = method_named(asked.name)
    inputs = tuple(repo.resolve(r) for r in revisions)
    settings = settings_for(method, asked.options, len(inputs))
    adapters = [r for r, c in zip(revisions, inputs, strict=True) if repo.commit(c).kind is Kind.ADAPTER]
    is_adapter = bool(adapters)
    if is_adapter and len(adapters) < len(inputs):
        raise InvalidInputError(
            "adapters and whole checkpoints cannot be merged with each other",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.FOLD_ADAPTER,
            facts={"revision": adapters[0]},
        )
    _check_exact(asked, is_adapter=is_adapter)
    if asked.base is not None:
        base: CommitId | None = repo.resolve(asked.base)
    else:
        base = _common_base(repo, inputs, is_adapter=is_adapter)
    _check_base(repo, method, base, is_adapter=is_adapter, exact=asked.exact)
    names = [name_of(repo, c) if is_oid(text) else text for text, c in zip(revisions, inputs, strict=True)]
    operands = _operands(repo, method, [*inputs], names, base, dequantize=dequantize)
    models = tuple(MergeInput(n, m) for n, m in zip(names, operands.manifests, strict=False))
    parameters = {p.name: getattr(settings, p.name) for p in method.parameters}
    return MergePlan(method, asked, parameters, inputs, models, base, is_adapter, operands)


def _operands(
    repo: Repository,
    method: MethodInfo,
    commits: list[CommitId],
    names: list[str],
    base: CommitId | None,
    *,
    dequantize: bool,
) -> Operands:
    """The models, and the base of the diff vectors after them."""
    runs = method.statistics is not None
    if method.needs_base and base is not None:
        commits, names = [*commits, base], [*names, name_of(repo, base)]
    advice = Advice.CHECK_OUT_DEQUANTIZED if runs else Advice.DEQUANTIZE
    return open_operands(repo, commits, names, dequantize=dequantize and not runs, advice=advice)


def _check_exact(asked: MergeMethod, *, is_adapter: bool) -> None:
    if not (asked.exact or asked.rank is not None) or (is_adapter and asked.exact):
        return
    raise InvalidInputError(
        "exact merges adapters through their products" if asked.exact else "rank needs exact",
        kind=ErrorKind.BAD_ARGUMENT,
        advice=None if is_adapter else Advice.LEAVE_OUT_EXACT,
    )


def _common_base(repo: Repository, inputs: Sequence[CommitId], *, is_adapter: bool) -> CommitId | None:
    """The nearest checkpoint that all inputs were made from; for adapters the very one they sit on."""
    if not is_adapter:
        return common_base(repo.objects, inputs)
    bases = {repo.commit(c).parent_as(Role.BASE) for c in inputs}
    return bases.pop() if len(bases) == 1 else None


def _check_base(
    repo: Repository, method: MethodInfo, base: CommitId | None, *, is_adapter: bool, exact: bool
) -> None:
    if base is not None and repo.commit(base).kind is Kind.ADAPTER:
        raise InvalidInputError("the base is an adapter", kind=ErrorKind.INCOMPATIBLE)
    if is_adapter and ((method.needs_base and not exact) or method.statistics):
        raise InvalidInputError(
            f"{method.name} cannot merge adapters: their factors have no common starting point",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.METHODS_FOR_ADAPTERS,
        )
    if is_adapter and base is None:
        raise InvalidInputError(
            "the adapters were trained from different bases",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.NAME_BASE_OF_RESULT,
        )
    if method.needs_base and base is None:
        raise InvalidInputError(
            f"{method.name} merges diff vectors, and these checkpoints have no base in common",
            kind=ErrorKind.BASE_UNKNOWN,
            advice=Advice.NAME_BASE_OR_AVERAGE,
        )


def _recipe(
    method: MethodInfo, inputs: Sequence[CommitId], base: CommitId | None, parameters: Mapping[str, object]
) -> str:
    """What was merged how, as text with full commit ids; sums are written as expressions."""
    weights = parameters.get("weights")
    factors = list(weights) if isinstance(weights, tuple) else [1.0] * len(inputs)
    if method.name == "average":
        return f"({' + '.join(inputs)}) / {len(inputs)}"
    if method.name == "weighted":
        terms = " + ".join(f"{w!r} * {c}" for w, c in zip(factors, inputs, strict=True))
        return f"({terms}) / {sum(factors)!r}"
    if method.name == "task_arithmetic" and all(w >= 0 for w in factors):
        terms = " + ".join(f"{w!r} * ({c} - {base})" for w, c in zip(factors, inputs, strict=True))
        scale = parameters["scale"]
        if isinstance(scale, float) and scale >= 0:
            return f"{base} + {scale!r} * ({terms})"
    settings = "".join(f"; {k}={json.dumps(v)}" for k, v in parameters.items())
    below = f"{base}; " if method.needs_base else ""
    return f"{method.name}({below}{', '.join(inputs)}{settings})"
