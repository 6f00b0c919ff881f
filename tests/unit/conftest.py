"""A tiny Llama and a tokenizer built on the spot, the real ones where they are at hand, a stand-in Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deltavcs.storage.hub_client import HubOptions
from deltavcs.tasks.template import Example

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "data/models/stories260k"
TASKS = SHARED / "data/tasks"
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_tokenizer(*, chat: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Question: what is it?\nOptions:\nA. one\nB. two\nAnswer: A"] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(*, seed: int = 0, tied: bool = False, dtype: Any = None) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        attention_dropout=0.1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).to(dtype or torch.float32).eval()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return build_tokenizer(chat=False)


@pytest.fixture(scope="session")
def chat_tokenizer() -> Any:
    return build_tokenizer(chat=True)


@pytest.fixture
def make_model() -> Any:
    import torch

    torch.set_num_threads(2)
    return build_model


@pytest.fixture
def examples() -> list[Example]:
    texts = [
        ("Question: which is red?\nA. blood\nB. grass", "A"),
        ("Which is longer, and why would anyone ask for it?\nA. a mile\nB. an inch\nC. a foot", "B"),
        ("2 + 2", "It is four.\n#### 4"),
        ("Say yes", "yes"),
        ("Question: what is it that is asked here again and again?\nA. one\nB. two", "one or two"),
        ("x", "B"),
        ("Ünïcode — “quotes”", "naïve ☃"),
    ]
    return [Example(prompt=prompt, answer=answer) for prompt, answer in texts]


@pytest.fixture(scope="session")
def stories() -> tuple[Any, Any]:
    """The real model and tokenizer; skipped where they are absent."""
    if not STORIES.is_dir():
        pytest.skip("stories260k is not at hand")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(STORIES).eval(), AutoTokenizer.from_pretrained(STORIES)


@pytest.fixture(scope="session")
def task_folder() -> Path:
    if not TASKS.is_dir():
        pytest.skip("the normalised rows are not at hand")
    return TASKS


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubOptions]:
    """How to reach `hub_stand_in.HubStandIn`, which serves what a test puts into its `repos`."""
    from hub_stand_in import serving

    with serving() as endpoint:
        yield HubOptions(endpoint=endpoint, cache_dir=tmp_path / "cache")
