"""Pure coding layer: arrays to payloads and back, bit for bit (docs/spec/v1-codec.md).

An `Encoder` belongs to one tensor: it carries the tables that all chunks of the tensor share. Chunks
decode independently of each other.
"""

from __future__ import annotations

from deltavcs.codec.api import (
    CHUNK_BYTES,
    DEFAULT_LEVEL,
    DERIVED,
    MAX_CHUNK_BYTES,
    MAX_SIDE_BYTES,
    Buffer,
    CodecId,
    Decoder,
    Encoder,
    codec_word,
    needs_base,
)
from deltavcs.codec.choice import make_encoder, open_decoder, plan
from deltavcs.codec.codec_kernels import NativeInfo, native_info

__all__ = [
    "CHUNK_BYTES",
    "DEFAULT_LEVEL",
    "DERIVED",
    "MAX_CHUNK_BYTES",
    "MAX_SIDE_BYTES",
    "Buffer",
    "CodecId",
    "Decoder",
    "Encoder",
    "NativeInfo",
    "codec_word",
    "make_encoder",
    "native_info",
    "needs_base",
    "open_decoder",
    "plan",
]
