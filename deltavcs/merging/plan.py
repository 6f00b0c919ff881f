"""From a method and a stream of blocks to a formula, and from a formula to bytes."""

from __future__ import annotations

from collections.abc import Iterator

from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.blocks import BLOCK_ELEMENTS, TensorSource, checked_blocks
from deltavcs.merging.methods import method_named, settings_for
from deltavcs.merging.settings import DerivedPlan, Options
from deltavcs.operators.parse import evaluate_parsed, parse
from deltavcs.tensors.cast import ByteArray, from_float64, layout_of


def plan_tensor(method: str, source: TensorSource, options: Options) -> DerivedPlan:
    """Plan the merge of one tensor: take the statistics it needs and return its formula.

    Args:
        method: name of a derived method.
        source: the tensor of every input, the base first where the method has one.
        options: by parameter name; see `METHODS`.

    Returns:
        The operator and its parameters; they pass `derived.validate`.

    Raises:
        InvalidInputError: `bad-argument` for an unknown method or options that do not fit,
            `unsupported-dtype` if tensors of this dtype can only be copied, `bad-checkpoint` if the method
            cannot handle values that are not finite and the tensor holds some.
    """
    chosen = method_named(method)
    if chosen.plan is None:
        raise InvalidInputError(
            f"{chosen.name} is computed from statistics, not planned",
            kind=ErrorKind.BAD_ARGUMENT,
            hint=f"pass {chosen.statistics} statistics to its `compute` function",
        )
    layout_of(source.dtype)
    settings = settings_for(chosen, options, source.n_inputs - int(chosen.needs_base))
    plan = chosen.plan(source, settings)
    parse(plan.op, plan.params, source.n_inputs)
    return plan


def run_plan(
    plan: DerivedPlan, source: TensorSource, block_elements: int = BLOCK_ELEMENTS
) -> Iterator[tuple[int, ByteArray]]:
    """Yield the merged tensor block by block: (start, little-endian bytes in the dtype of the source).

    The bytes do not depend on `block_elements`.

    Raises:
        FormatError: `bad-object` or `unsupported-feature` if the plan is malformed.
    """
    operation = parse(plan.op, plan.params, source.n_inputs)
    for start, inputs in checked_blocks(source, block_elements):
        yield start, from_float64(evaluate_parsed(operation, inputs, start), source.dtype)
