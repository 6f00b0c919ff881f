"""Planning a merge: what is asked is checked before anything is read or run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.checkpoint.quantised import Purpose
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.history.ancestors import common_base
from deltavcs.merging.counterparts import MergeInput
from deltavcs.merging.methods import MethodInfo, method_named, settings_for
from deltavcs.merging.settings import MergeMethod
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId, is_oid
from deltavcs.repo import Repository
from deltavcs.steps.naming import name_of
from deltavcs.steps.operands import Operands, open_operands
from deltavcs.steps.whole_files import check_tensors


@dataclass(frozen=True, slots=True)
class MergePlan:
    """A merge whose arguments were checked.

    Attributes:
        method: from the table of methods.
        asked: how the caller wants it.
        parameters: as they will be used.
        operands: the models as they are computed with, and the base after them if there is one.
        init: the adapter that all of them started from, where factors are merged as diff vectors from it.
        products: adapters are merged through what they do, not factor by factor.
    """

    method: MethodInfo
    asked: MergeMethod
    parameters: Mapping[str, object]
    inputs: tuple[CommitId, ...]
    models: tuple[MergeInput, ...]
    base: CommitId | None
    is_adapter: bool
    operands: Operands
    init: CommitId | None = None
    products: bool = False

    @property
    def recipe(self) -> str:
        """What is merged how, as text with full commit ids; sums are written as expressions."""
        return _recipe(self.method, self.inputs, self.init or self.base, self.parameters)


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
    check_tensors(repo, inputs)
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
    base, init = _starts(repo, method, asked, inputs, is_adapter=is_adapter)
    products = is_adapter and (asked.exact or (method.needs_base and init is None))
    _check_exact(asked, is_adapter=is_adapter, products=products)
    _check_base(method, base, is_adapter=is_adapter)
    names = [name_of(repo, c) if is_oid(text) else text for text, c in zip(revisions, inputs, strict=True)]
    start = base if not is_adapter else None
    operands = _operands(repo, method, [*inputs], names, start, dequantize=dequantize)
    models = tuple(MergeInput(n, m) for n, m in zip(names, operands.manifests, strict=False))
    parameters = {p.name: getattr(settings, p.name) for p in method.parameters}
    return MergePlan(method, asked, parameters, inputs, models, base, is_adapter, operands, init, products)


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
    purpose = Purpose.RUN if runs else Purpose.COMPUTE
    return open_operands(repo, commits, names, dequantize=dequantize and not runs, purpose=purpose)


def _check_exact(asked: MergeMethod, *, is_adapter: bool, products: bool) -> None:
    if products or not (asked.exact or asked.rank is not None):
        return
    raise InvalidInputError(
        "exact merges adapters through their products"
        if asked.exact
        else "a rank is for products of adapters",
        kind=ErrorKind.BAD_ARGUMENT,
        advice=None if is_adapter else Advice.LEAVE_OUT_EXACT,
    )


def _starts(
    repo: Repository, method: MethodInfo, asked: MergeMethod, inputs: Sequence[CommitId], *, is_adapter: bool
) -> tuple[CommitId | None, CommitId | None]:
    """The base of a merge, and for factors of adapters the adapter that they started from."""
    named = repo.resolve(asked.base) if asked.base is not None else None
    if not is_adapter:
        if named is not None and repo.commit(named).kind is Kind.ADAPTER:
            raise InvalidInputError("the base is an adapter", kind=ErrorKind.INCOMPATIBLE)
        return named or common_base(repo.objects, inputs), None
    if named is None or repo.commit(named).kind is not Kind.ADAPTER:
        by_factor = method.needs_base and not asked.exact
        return named or _base_below(repo, inputs), _common_init(repo, inputs) if by_factor else None
    if asked.exact or not method.needs_base:
        raise InvalidInputError(
            f"{asked.base} is an adapter, and {'products have' if asked.exact else method.name + ' has'} no"
            " use for the one that training started from",
            kind=ErrorKind.BAD_ARGUMENT,
            advice=Advice.INITIAL_FOR_FACTORS,
        )
    return _base_below(repo, [*inputs, named]), named


def _base_below(repo: Repository, adapters: Sequence[CommitId]) -> CommitId | None:
    """The very base that adapters sit on, under whatever name; None if there are several."""
    bases = [repo.commit(c).parent_as(Role.BASE) for c in adapters]
    contents = {repo.commit(base).manifest if base is not None else None for base in bases}
    return bases[0] if len(contents) == 1 else None


def _common_init(repo: Repository, adapters: Sequence[CommitId]) -> CommitId | None:
    """The adapter that the training of all of them went on from, if they say so."""
    inits = {repo.commit(c).parent_as(Role.INIT) for c in adapters}
    init = inits.pop() if len(inits) == 1 else None
    return init if init is not None and repo.commit(init).kind is Kind.ADAPTER else None


def _check_base(method: MethodInfo, base: CommitId | None, *, is_adapter: bool) -> None:
    if is_adapter and method.statistics:
        raise InvalidInputError(
            f"{method.name} cannot merge adapters: it weighs the elements of whole weights",
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
