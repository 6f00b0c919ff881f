"""Recognising quantised checkpoints: stored numbers that are weights only together with their scales.

The configuration names the scheme; where there is none, the tensors tell: packed integers and 8-bit floats
stand beside companions (`weight_scale_inv`, `absmax`, `qzeros`, …). A few integer buffers are not a
quantisation, nor is a checkpoint that was merely converted to 8-bit floats.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from deltavcs.advice import Advice
from deltavcs.checkpoint.layout import MAX_JSON_BYTES
from deltavcs.checkpoint.quantisation_config import ReadFile, read_declared
from deltavcs.checkpoint.scaled_floats import NOT_OF_WEIGHTS, ScaledFloats, TypedTensor, match_scales
from deltavcs.checkpoint.view import View, view_of
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Manifest
from deltavcs.objects.store import ObjectStore
from deltavcs.tensors.dtypes import dtype_of, n_elements

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_FLOAT8 = frozenset({"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
_INTEGERS = frozenset({"U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})
_PLAIN = _FLOATS | {"BOOL", "I64", "C64"}
_PAYLOAD = re.compile(
    r"(?P<stem>.+?)(?:[._:]_?weight)?[._:]_?"
    r"(?P<kind>weight|qweight|packed|W_q|q_weight|codes|blocks|qdata|data|Qidxs|indices|"
    r"trellis|dense_weights|bitmask)\Z"
)
_COMPANION = re.compile(
    r"(?P<stem>.+?)(?:[._:]_?weight)?[._:]_?(?P<kind>(?:weight_)?(?:scale_inv|scales?|scale_2|global_scale|"
    r"zero_point|g_idx|shape)|scale_weight|scale_input|scale_(?:and|with)_zero|qscale_weight|qscale_act|"
    r"(?:input|activation|output|k|v|q|prob)_scale(?:_ub)?|input_global_scale|pre_quant_scale|channel_scales?|"
    r"absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.\w+|SCB|weight_format|qzeros|zeros?|biases|"
    r"codebooks|centroids|meta|comfy_quant)\Z"
)
# A companion that alone proves a quantisation, whatever dtype the numbers are stored in.
_PROOFS = ("absmax", "SCB", "quant_state")
# Kinds that no other tensor of a model is called: integers under them are stored numbers, scales or none.
_TELLING = ("weight", "qweight", "packed", "W_q", "Qidxs", "trellis", "bitmask")
# Integers that are no weights however many they are: masks, positions.
_BUFFER = re.compile(r"(?:\A|.*[._])(?:\w*bias|\w*mask|\w*ids|\w*index|\w*offsets?)\Z")
# Says by its presence that all 8-bit floats of a file have scales.
_FLAG = "scaled_fp8"
_BY_PAYLOAD = {
    "qweight": "packed integers, as GPTQ and AWQ store them",
    "packed": "compressed-tensors, packed",
    "W_q": "HQQ", "codes": "AQLM", "blocks": "MXFP4", "qdata": "TorchAO", "data": "Quanto",
    "Qidxs": "QuIP#", "indices": "VPTQ", "q_weight": "packed integers, as EXL2 stores them",
    "trellis": "EXL3", "dense_weights": "SpQR", "bitmask": "compressed-tensors, sparse",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How the tensors of one folder of a checkpoint are quantised.

    Attributes:
        folder: path inside the checkpoint that ends in `/`; empty for the checkpoint's own tensors.
        scheme: for people, such as `GPTQ, 4 bits`.
        payloads: per key of stored numbers the keys of its companions, by their kind.
        companions: keys of all tensors that are no weights by themselves.
        dtype: that its weights are computed in.
        scaled: per payload its scales, if it is 8-bit floats times scales and nothing else.
        obstacle: why it is not; empty if it is.
        loadable: config.json tells transformers of it.
    """

    folder: str
    scheme: str
    payloads: Mapping[str, Mapping[str, str]]
    companions: frozenset[str]
    dtype: str
    scaled: Mapping[str, ScaledFloats]
    obstacle: str
    loadable: bool

    @property
    def tensors(self) -> frozenset[str]:
        """Keys of the tensors whose numbers are no weights: payloads and companions."""
        return self.companions | self.payloads.keys()


def quantisations_of(objects: ObjectStore, checkpoint: Manifest | View) -> tuple[Quantisation, ...]:
    """How a stored checkpoint is quantised, by folder; nothing for plain weights."""
    view = checkpoint if isinstance(checkpoint, View) else view_of(checkpoint)
    files = {f.path: f for f in view.files if f.keys is None and f.size <= MAX_JSON_BYTES}

    def read(path: str) -> bytes | None:
        file = files.get(path)
        if file is None or file.blob is None:
            return file.data if file is not None else None
        return objects.blobs.read(file.blob, max_bytes=MAX_JSON_BYTES)

    return recognise(view.tensors, read)


def recognise(tensors: Mapping[str, TypedTensor], read: ReadFile) -> tuple[Quantisation, ...]:
    """How tensors are quantised, by their manifest keys, dtypes and shapes and the files beside them.

    Args:
        read: content of a small file beside the tensors.
    """
    folders: dict[str, dict[str, str]] = {}
    for key in tensors:
        path, marked, name = key.partition("::")
        folder = path[: path.rfind("/") + 1] if marked else ""
        folders.setdefault(folder, {})[name if marked else key] = key
    found = (_recognise(f, names, tensors, read) for f, names in sorted(folders.items()))
    return tuple(one for one in found if one is not None)


def _recognise(
    folder: str, names: Mapping[str, str], tensors: Mapping[str, TypedTensor], read: ReadFile
) -> Quantisation | None:
    packed = {n for n, key in names.items() if tensors[key].dtype not in _PLAIN}
    proofs = any(proof in n for n in names for proof in _PROOFS)
    declared = read_declared(read, folder)
    if not packed and not proofs and not declared.scheme and not _integer_weights(names, tensors):
        return None
    payloads, companions = _match(names, tensors)
    if not payloads and (declared.scheme or _mostly_packed(names, packed, tensors)):
        # Numbers of few bits under names that are not known here.
        payloads = {names[n]: {} for n in packed if len(tensors[names[n]].shape) > 1}
    if not payloads and declared.scheme:
        payloads = _scaled_by_name(names, tensors)
        companions |= {key for beside in payloads.values() for key in beside.values()}
    if not payloads:
        return None
    # Where others have scales, 8-bit floats without one are not what they seem.
    bare = (
        names[n] for n in packed if tensors[names[n]].dtype in _FLOAT8 and len(tensors[names[n]].shape) > 1
    )
    payloads |= {key: {} for key in bare if key not in payloads and key not in companions}
    scheme = declared.scheme or _scheme_of(payloads, tensors)
    scaled = match_scales(payloads, tensors, method=declared.method, block=declared.block)
    obstacle, scaled = (scaled, {}) if isinstance(scaled, str) else (declared.obstacle, scaled)
    others = frozenset(companions - payloads.keys())
    return Quantisation(folder, scheme, payloads, others, declared.dtype, scaled, obstacle, declared.loadable)


def _mostly_packed(
    names: Mapping[str, str], packed: Collection[str], tensors: Mapping[str, TypedTensor]
) -> bool:
    """True if a quarter of all bytes are integers or numbers of fewer than 8 bits, and no buffers."""

    def size(name: str) -> int:
        tensor = tensors[names[name]]
        return n_elements(tensor.shape) * dtype_of(tensor.dtype).bits

    few = (n for n in packed if tensors[names[n]].dtype not in _FLOAT8 and not _BUFFER.match(n))
    return sum(map(size, few)) * 4 > sum(map(size, names))


def _scaled_by_name(
    names: Mapping[str, str], tensors: Mapping[str, TypedTensor]
) -> dict[str, dict[str, str]]:
    """Weights with a `weight_scale`: rounded to few bits, though they are stored as floats."""
    stems = {n.removesuffix("_scale") for n in names if n.endswith(".weight_scale")}
    return {
        names[n]: {"scale": names[f"{n}_scale"]}
        for n in sorted(stems & names.keys())
        if tensors[names[n]].dtype in _FLOATS
    }


def _integer_weights(names: Mapping[str, str], tensors: Mapping[str, TypedTensor]) -> bool:
    """True if a matrix of 64-bit integers is called a weight; other such matrices are buffers."""
    wide = (n for n, key in names.items() if tensors[key].dtype == "I64" and len(tensors[key].shape) > 1)
    return any(n.endswith(("weight", "Qidxs")) for n in wide)


def _match(
    names: Mapping[str, str], tensors: Mapping[str, TypedTensor]
) -> tuple[dict[str, dict[str, str]], set[str]]:
    """Payloads with their companions, and all companions of the folder."""
    beside: dict[str, dict[str, str]] = {}
    for name, key in names.items():
        found = _COMPANION.match(name)
        if found is not None:
            beside.setdefault(found["stem"], {})[found["kind"].removeprefix("weight_")] = key
    payloads: dict[str, dict[str, str]] = {}
    for name, key in names.items():
        found = _PAYLOAD.match(name)
        stem, kind = (found["stem"], found["kind"]) if found is not None else (name, "")
        own = {k: v for k, v in beside.get(stem, {}).items() if v != key}
        if _is_payload(kind, tensors[key], {k: tensors[v] for k, v in own.items()}):
            payloads[key] = own
    companions = {v for one in payloads.values() for v in one.values()}
    if payloads:
        # Scales of a quantised cache stand beside no weight.
        companions |= {k for one in beside.values() for kind, k in one.items() if kind in NOT_OF_WEIGHTS}
        companions |= {key for name, key in names.items() if name.rpartition(".")[2] == _FLAG}
    return payloads, companions


def _is_payload(kind: str, tensor: TypedTensor, beside: Mapping[str, TypedTensor]) -> bool:
    if any(k.startswith(_PROOFS) for k in beside):
        return kind in ("", "weight")
    if tensor.dtype in _FLOATS or tensor.dtype in ("BOOL", "C64") or not tensor.shape:
        return False
    if tensor.dtype in _INTEGERS:
        return (len(tensor.shape) > 1 and kind in _TELLING) or kind == "dense_weights" or bool(beside)
    if tensor.dtype.endswith("FNUZ"):  # nothing here computes with them: they would be copied
        return len(tensor.shape) > 1 or bool(beside)
    # 8-bit floats that nothing scales are what they are; a norm called `scale` is converted along with them.
    return tensor.dtype not in _FLOAT8 or any(t.dtype != tensor.dtype or "2" in k for k, t in beside.items())


def _scheme_of(payloads: Mapping[str, Mapping[str, str]], tensors: Mapping[str, TypedTensor]) -> str:
    """The scheme as names and dtypes tell it, by the first of the stored numbers."""
    key, beside = next(iter(sorted(payloads.items())))
    found = _PAYLOAD.match(key.rpartition("::")[2])
    kind = found["kind"] if found is not None else ""
    state = next((k for k in beside if k.startswith("quant_state")), "")
    if state or "absmax" in beside:
        word = state.rpartition("__")[2]
        return f"bitsandbytes {word}, 4 bits" if word in ("nf4", "fp4") else "bitsandbytes, 4 bits"
    if "SCB" in beside:
        return "bitsandbytes, 8 bits"
    if "scale_2" in beside:
        return "NVFP4"
    if kind in _BY_PAYLOAD:
        return _BY_PAYLOAD[kind]
    if tensors[key].dtype in _FLOAT8 and (beside or not tensors[key].dtype.endswith("FNUZ")):
        return "block-scaled fp8" if "scale_inv" in beside else "fp8 with scales"
    if tensors[key].dtype == "U32" and "scales" in beside:
        return "MLX, packed integers"
    what = "integers" if tensors[key].dtype in _INTEGERS else "numbers"
    return f"{tensors[key].dtype} {what}" + (" with scales" if beside else "")


class Purpose(StrEnum):
    """What a quantised checkpoint was wanted for."""

    COMPUTE = "compute"
    RUN = "run"
    FOLD = "fold"
    DEQUANTISE = "dequantise"


def check_arithmetic(
    objects: ObjectStore, checkpoint: Manifest | View, name: str, purpose: Purpose = Purpose.COMPUTE
) -> None:
    """Refuse a checkpoint whose stored numbers are not its weights.

    Args:
        name: the revision, for the message.
        purpose: decides what would help.

    Raises:
        InvalidInputError: `quantised`, naming revision and scheme.
    """
    found = quantisations_of(objects, checkpoint)
    if found:
        raise quantised_error(name, found, purpose)


def quantised_error(
    name: str, found: tuple[Quantisation, ...], purpose: Purpose = Purpose.COMPUTE
) -> InvalidInputError:
    """The error for a checkpoint that cannot be used as it is."""
    advice, why = _ADVICE[purpose], ": its stored numbers are no weights to compute with"
    obstacle = next((one.obstacle for one in found if one.obstacle), "")
    if purpose is not Purpose.FOLD and obstacle:
        advice = Advice.USE_UNQUANTISED
    if purpose is Purpose.DEQUANTISE:
        why = f", and what its weights are cannot be told: {obstacle}"
    return InvalidInputError(
        f"{name} is quantised ({describe(found)}){why}",
        kind=ErrorKind.QUANTISED,
        advice=advice,
        facts={"revision": name},
    )


_ADVICE = {
    Purpose.COMPUTE: Advice.DEQUANTIZE,
    Purpose.RUN: Advice.CHECK_OUT_DEQUANTIZED,
    Purpose.FOLD: Advice.FOLD_UNQUANTISED,
    Purpose.DEQUANTISE: Advice.USE_UNQUANTISED,
}


def describe(found: tuple[Quantisation, ...]) -> str:
    """The schemes of a checkpoint, with their folders where these are not its own."""
    return "; ".join(dict.fromkeys(f"{q.folder}: {q.scheme}" if q.folder else q.scheme for q in found))
