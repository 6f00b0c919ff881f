"""A skeleton has the modules and names of the model, and no memory."""

from __future__ import annotations

import json

import pytest

from deltavcs.errors import InvalidInputError
from deltavcs.skeleton.skeleton import build_skeleton, quiet

_SMALL = {"vocab_size": 64, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}


def _gpt2(**more: object) -> bytes:
    return json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **_SMALL, **more}).encode()


def test_a_model_of_a_hundred_terabytes_is_built_in_no_memory():
    skeleton = build_skeleton(_gpt2(n_embd=1 << 20))
    assert skeleton.shapes["transformer.wte.weight"] == (64, 1 << 20)
    assert next(skeleton.model.parameters()).device.type == "meta"


def test_modules_tell_how_a_weight_lies():
    skeleton = build_skeleton(_gpt2())
    assert type(skeleton.module_of("transformer.h.0.attn.c_proj.weight")).__name__ == "Conv1D"
    assert type(skeleton.module_of("transformer.wte.weight")).__name__ == "Embedding"
    assert skeleton.module_of("transformer.h.9.attn.c_proj.weight") is None


def test_tied_weights_are_known():
    assert build_skeleton(_gpt2()).tied == {"lm_head.weight": "transformer.wte.weight"}
    assert build_skeleton(_gpt2(tie_word_embeddings=False)).tied == {}


def test_what_transformers_cannot_build_is_refused():
    with pytest.raises(InvalidInputError, match="cannot build"):
        build_skeleton(_gpt2(n_head=5))


def test_buffers_that_would_fill_the_memory_are_refused():
    config = {"model_type": "gptj", "n_embd": 32, "n_head": 4, "n_layer": 2, "rotary_dim": 8}
    build_skeleton(json.dumps(config | {"n_positions": 2048}).encode())
    with pytest.raises(InvalidInputError, match="MiB of buffers, more than"):
        build_skeleton(json.dumps(config | {"n_positions": 90_000_000}).encode())


def test_what_transformers_says_is_heard_again_after_the_last_model(capfd):
    import warnings

    from transformers.utils import logging

    logger = logging.get_logger("transformers.test")
    before = logging.get_verbosity()
    with quiet():
        with quiet():
            pass
        logger.warning("of a model")
        warnings.warn("of a model", stacklevel=1)
    assert "of a model" not in capfd.readouterr().err
    assert logging.get_verbosity() == before
