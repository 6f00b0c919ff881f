"""How a diff vector is carried over to another base, as a caller chooses it."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.carried_files import CONFIGS

VOCABS = ("pad", "strict")


@dataclass(frozen=True, slots=True)
class Carrying:
    """How the result of a transfer is made.

    Attributes:
        vocab: `pad` counts rows that a base lacks as zeros; `strict` refuses them.
        config: whose config.json the result has: the `target`'s or the `finetune`'s.
        fold: fold an adapter into its new base, in place of an adapter for it.
        dequantize: compute with the weights that quantised checkpoints stand for; the result has those.
    """

    vocab: str = "pad"
    config: str = "target"
    fold: bool = False
    dequantize: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("vocab", VOCABS), ("config", CONFIGS)):
            given = getattr(self, name)
            if given not in choices:
                raise InvalidInputError(
                    f"{name} is {given!r}",
                    kind=ErrorKind.BAD_ARGUMENT,
                    advice=Advice.ONE_OF,
                    facts={"choices": ", ".join(choices)},
                )
