"""Names of the tensors of an adapter: what each says, whatever wrapped the model when it was saved."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

# What DistributedDataParallel, torch.compile, FSDP and PEFT itself put before or into the names of a model.
_OUTER = re.compile(r"\A(?:module\.|base_model\.model\.|_orig_mod\.|_fsdp_wrapped_module\.)")
_INNER = re.compile(r"(?<=\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_ADAPTER = r"(?:\.[^.]+)?"  # the name of the adapter, which PEFT leaves out and other savers keep
_FACTOR = re.compile(
    rf"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:{_ADAPTER}\.(?P<kind>weight|bias)|{_ADAPTER})\Z"
)
_MAGNITUDE = re.compile(rf"(?P<module>.+)\.lora_magnitude_vector{_ADAPTER}(?:\.weight)?\Z")
_TOKENS = re.compile(rf"(?P<module>.+?)(?:\.token_adapter)?\.trainable_tokens_delta{_ADAPTER}\Z")
# Tensors of an adapted layer that are no factor of LoRA: lora_E of AdaLoRA, lora_diag of KaSA and what comes.
_OTHER = re.compile(r"\.lora_[^.]+|\.trainable_tokens_original")
_SAVED = re.compile(r"\.(?:modules_to_save|base_layer|token_adapter)(?=\.)")


class Part(StrEnum):
    """What a tensor of an adapter is."""

    A = "A"
    B = "B"
    BIAS = "bias"
    MAGNITUDE = "magnitude"
    TOKENS = "tokens"
    WHOLE = "whole"
    COPY = "copy"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class AdapterKey:
    """What the name of a tensor of an adapter says.

    Attributes:
        module: the adapted module as the trained model named it, with `.base_layer` for each adapter around
            it; of a `WHOLE` tensor its own name.
        embedding: it is a factor of an embedding, and transposed.
    """

    module: str
    part: Part
    embedding: bool = False

    @property
    def depth(self) -> int:
        """How many adapters of other parameters of the same module lie around this one."""
        return self.module.count(".base_layer")

    @property
    def plain_module(self) -> str:
        """The module without what lies around it."""
        return self.module.replace(".base_layer", "")


def plain_name(key: str) -> str:
    """The name without the wrappers of the model that was saved."""
    while found := _OUTER.match(key):
        key = key[found.end() :]
    return _INNER.sub("", key)


def parse_key(key: str) -> AdapterKey:
    """Read the name of a tensor of an adapter."""
    name = plain_name(key)
    if found := _FACTOR.match(name):
        part = Part.BIAS if found["kind"] == "bias" else Part(found["side"])
        return AdapterKey(found["module"], part, found["embedding"] is not None)
    if found := _MAGNITUDE.match(name):
        return AdapterKey(found["module"], Part.MAGNITUDE)
    if found := _TOKENS.match(name):
        return AdapterKey(found["module"], Part.TOKENS)
    if ".original_module." in name or ".trainable_tokens_original" in name:
        return AdapterKey(name, Part.COPY)
    if _OTHER.search(name):
        return AdapterKey(name, Part.OTHER)
    return AdapterKey(name, Part.WHOLE)


def whole_names(name: str) -> list[str]:
    """How the model may call a tensor that an adapter keeps whole, the likeliest first."""
    plain = _SAVED.sub("", name)
    named = re.sub(r"\.modules_to_save\.[^.]+(?=\.)", "", name)  # with the name of the adapter
    return [plain] if named == name else [plain, _SAVED.sub("", named)]
