"""Which stored elements are Inf or NaN, told by their bit patterns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltavcs.tensors.cast import Buffer, layout_of


def nonfinite(raw: Buffer, dtype: str) -> NDArray[np.bool_] | None:
    """Where elements are Inf or NaN; None if none is, which is told in one pass.

    Args:
        raw: whole little-endian elements.
        dtype: safetensors name of an arithmetic dtype.

    Returns:
        A mask, bool, shape (n,).

    Raises:
        InvalidInputError: `unsupported-dtype` for dtypes without arithmetic.
    """
    layout = layout_of(dtype)
    patterns = np.frombuffer(raw, f"<u{layout.bits // 8}")
    # Magnitudes are ordered as their patterns are, and what is not finite lies above all that is.
    magnitudes = patterns & patterns.dtype.type((1 << (layout.bits - 1)) - 1)
    if not magnitudes.size or int(magnitudes.max()) < layout.overflow:
        return None
    found: NDArray[np.bool_] = magnitudes >= layout.overflow
    return found
