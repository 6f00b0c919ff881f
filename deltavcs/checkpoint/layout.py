"""Which files of a checkpoint play which part. By name, as the Hugging Face libraries name them."""

from __future__ import annotations

import os
import re

MARKER = ".dvx-checkout.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
# Written by Git, this tool and the Hub's client; not part of a checkpoint.
SKIPPED_FOLDERS = (".git", ".dvx", ".cache/huggingface")
_DRAFT = re.compile(r"\.[0-9a-f]{8}\.partial\Z")
MAX_JSON_BYTES = 64 << 20

# Models and arrays in formats of other libraries, which are kept as files.
_OTHER_FORMATS = (
    ".gguf", ".ggml", ".onnx", ".ort", ".npz", ".npy", ".h5", ".hdf5", ".keras", ".msgpack", ".tflite",
    ".mlmodel", ".mlpackage", ".pb", ".ot", ".onnx_data", ".nemo", ".engine", ".plan", ".pte",
)  # fmt: skip
# Those of OpenVINO and whisper.cpp share their ending with pickles; Core ML's are folders.
_OTHER_BY_NAME = re.compile(r"(?:.*/)?(?:openvino_[^/]*\.(?:bin|xml)|ggml-[^/]*\.bin)\Z|.*\.mlpackage/")
_SAYS_WHAT_IT_IS = frozenset({CONFIG, ADAPTER_CONFIG, "model_index.json"})

_VOCABULARY = (
    "embed_tokens",
    "lm_head",
    "wte",
    "word_embeddings",
    "embed_in",
    "embed_out",
    "tok_embeddings",
)


def draft_name() -> str:
    """A new name for the folder in which a checkout is written before it is moved into place."""
    return f".{os.urandom(4).hex()}.partial"


def is_draft(path: str) -> bool:
    """True for what a checkout that was killed left behind: no part of a checkpoint."""
    return _DRAFT.match(path) is not None


def is_vocabulary(key: str) -> bool:
    """True for tensors with one row per token: embeddings and heads."""
    return any(part in key for part in _VOCABULARY)


def is_safetensors(path: str) -> bool:
    """True for a safetensors file."""
    return path.endswith(".safetensors")


def is_other_format(path: str) -> bool:
    """True for a model in a format of another library, such as GGUF or ONNX."""
    return path.lower().endswith(_OTHER_FORMATS) or _OTHER_BY_NAME.match(path) is not None


def is_pickle(path: str) -> bool:
    """True for a file that may be pickled weights, by its name."""
    return path.endswith((*PICKLE_SUFFIXES, ".ckpt")) and not is_other_format(path)


def is_essential(path: str) -> bool:
    """True for weights, and for what says what they are: without it a checkpoint is another one."""
    name = path.rpartition("/")[2]
    return (
        name in _SAYS_WHAT_IT_IS
        or is_safetensors(name)
        or is_pickle(name)
        or is_other_format(name)
        or (".index." in name and name.endswith(".json"))
    )


def tensor_key(path: str, name: str, *, primary: bool) -> str:
    """Key of a tensor in the manifest."""
    return name if primary else f"{path}::{name}"
