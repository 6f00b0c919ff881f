"""LoRA weights in other layouts than PEFT's: files of image models, and models with an adapter still in them.

They are kept as they are. Their tensors are factors and scales, so no arithmetic that takes them for weights
is right. The names are those that the conversions of diffusers take apart
(`diffusers.loaders.lora_conversion_utils`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from deltavcs.advice import Advice
from deltavcs.checkpoint.layout import ADAPTER_CONFIG
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest

_FACTOR = re.compile(
    r"[._]lora[._](?:up|down|mid|A|B)\b"  # with or without .default, .weight
    r"|[._]lora_embedding_[AB]\b"
    r"|\.lora_linear_layer\.(?:up|down)\."
    r"|\.(?:hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2|oft_blocks|oft_diag|dora_scale)\Z"
)
_LYCORIS = re.compile(r"\.(?:hada_|lokr_|oft_)|\Alycoris_")
_KOHYA = re.compile(r"\Alora_(?:unet|te\d?|transformer|prior|llm_adapter)\w*[._]|\.lora_(?:up|down)\.")
_COMFY = re.compile(r"\A(?:diffusion_model|text_encoders|clip_[lg])\.")
UNMERGED = "checkpoint with an unmerged LoRA in it"


def foreign_lora(keys: Iterable[str]) -> str | None:
    """What a file is by the names of its tensors, such as `kohya LoRA`; None if they are weights.

    Not for adapters in PEFT's layout, whose factors have the same names.
    """
    names = list(keys)
    factors = [name for name in names if _FACTOR.search(name)]
    if not factors:
        return None
    if any(".base_layer." in name for name in names):
        return UNMERGED
    if any(_LYCORIS.search(name) for name in factors):
        return "LyCORIS adapter"
    if any(_COMFY.search(name) for name in factors):
        return "ComfyUI LoRA"
    return "kohya LoRA" if any(_KOHYA.search(name) for name in factors) else "diffusers LoRA"


def foreign_lora_in(manifest: Manifest) -> str | None:
    """The same of what is stored, which is not PEFT's if it has no `adapter_config.json`."""
    if any(f.path == ADAPTER_CONFIG for f in manifest.files):
        return None
    return foreign_lora(own_names(manifest.tensors))


def own_names(keys: Iterable[str]) -> list[str]:
    """Names of a checkpoint's own tensors; of all where several files lie side by side and none is it."""
    names = list(keys)
    return [k for k in names if "::" not in k] or [k.partition("::")[2] for k in names]


def refuse_foreign_lora(manifest: Manifest, name: str) -> None:
    """Refuse to compute with what holds factors in another layout than PEFT's.

    Args:
        name: of the revision, for the message.

    Raises:
        InvalidInputError: `incompatible`, naming the layout.
    """
    found = foreign_lora_in(manifest)
    if found is not None:
        raise InvalidInputError(
            f"{name} is a {found}: {'some of ' if found == UNMERGED else ''}its tensors are factors, not"
            " weights",
            kind=ErrorKind.INCOMPATIBLE,
            advice=Advice.SAVE_MERGED if found == UNMERGED else Advice.CONVERT_LORA,
        )
