"""The former place of `deltavcs.canonical`."""

from deltavcs.canonical import decode_json, encode_json

__all__ = ["decode_json", "encode_json"]
