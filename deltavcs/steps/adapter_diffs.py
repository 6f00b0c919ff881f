"""Two adapters of the history, compared by what they do."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.adapters.adapter_config import read_adapter_config
from deltavcs.adapters.foreign_loras import foreign_lora_in
from deltavcs.adapters.module_updates import ModuleDiff, diff_modules, module_updates, weight_norms
from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind, Role
from deltavcs.repo import Repository
from deltavcs.steps.targets import Target


@dataclass(frozen=True, slots=True)
class AdapterDiff:
    """Two adapters compared.

    Attributes:
        modules: of LoRA adapters, by their products.
        factors: keys of the factors of these.
        kinds: the types of both in words, such as `LORA (DoRA)`; empty for whole checkpoints.
    """

    modules: tuple[ModuleDiff, ...] = ()
    factors: frozenset[str] = frozenset()
    kinds: tuple[str, ...] = ()


def compare_adapters(repo: Repository, left: Target, right: Target) -> AdapterDiff:
    """Compare two LoRA adapters by their products; of others only the types are told.

    Raises:
        InvalidInputError: `incompatible` if only one of both is an adapter.
    """
    adapters = [t for t in (left, right) if _is_adapter(repo, t)]
    if len(adapters) == 1:
        other = right if adapters[0] is left else left
        raise InvalidInputError(
            f"{adapters[0].text} is an adapter and {other.text} is a whole checkpoint: they share no tensor",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.FOLD_ADAPTER,
            facts={"revision": adapters[0].text},
        )
    if not adapters:
        return AdapterDiff()
    kinds = tuple(_kind(repo, t) for t in (left, right))
    a, b = (module_updates(repo.objects, repo.manifest(t.operands[0])) for t in (left, right))
    if a is None or b is None:
        return AdapterDiff(kinds=kinds)
    bases = [repo.commit(t.operands[0]).parent_as(Role.BASE) for t in (left, right)]
    contents = {repo.commit(base).manifest if base is not None else None for base in bases}
    norms = {}
    if bases[0] is not None and len(contents) == 1:
        norms = weight_norms(repo.objects, (a, b), repo.manifest(bases[0]))
    return AdapterDiff(tuple(diff_modules(a, b, norms)), a.keys | b.keys, kinds)


def _kind(repo: Repository, target: Target) -> str:
    try:
        return read_adapter_config(repo.objects, repo.manifest(target.operands[0])).kind
    except InvalidInputError:
        return foreign_lora_in(repo.manifest(target.operands[0])) or "an unknown type"


def _is_adapter(repo: Repository, target: Target) -> bool:
    return target.commit is not None and repo.commit(target.commit).kind is Kind.ADAPTER
