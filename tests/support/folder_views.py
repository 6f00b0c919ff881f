"""A folder of safetensors and small files as a view, without a commit."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from deltavcs.checkpoint.view import Content, View, ViewFile

_DTYPES = {
    torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32", torch.bool: "BOOL",
}  # fmt: skip


class _Held:
    """Bytes of a tensor, as `deltavcs.checkpoint.view.Computed` gives them."""

    def __init__(self, tensor: torch.Tensor) -> None:
        flat = tensor.contiguous().reshape(-1)
        self._data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""

    def read_into(self, start: int, out: memoryview, dtype: str) -> None:
        out[:] = self._data[start : start + len(out)]


def view_of_folder(folder: Path) -> View:
    """What lies in `folder`; tensors are in memory."""
    files, tensors = [], {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            for name, tensor in load_file(path).items():
                tensors[name] = Content(_DTYPES[tensor.dtype], tuple(tensor.shape), computed=_Held(tensor))
        elif path.is_file():
            files.append(ViewFile(path.name, path.stat().st_size, None, path.read_bytes(), None))
    return View(tuple(files), tensors)
