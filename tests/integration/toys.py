"""A tiny Llama with its tokenizer, small tasks, and a training loop: what the integration tests share."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from deltavcs.evaluation.encode import Sample
from deltavcs.evaluation.evaluator import answer_logits

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "data/models/stories260k"
TASKS = SHARED / "data/tasks"
ALPHABET = sorted(set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n.,:;?!'_-/#()+=*"))


def build_tokenizer() -> Any:
    """One token per character."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {c: i for i, c in enumerate(["<pad>", "<s>", "</s>", "<unk>", *ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def build_model(seed: int = 0, **settings: Any) -> Any:
    """A Llama of a few thousand parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    values = {
        "vocab_size": 96,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**{**values, **settings})).eval()


def save(model: Any, folder: Path) -> str:
    """The model and its tokenizer as a directory."""
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return str(folder)


def perturbed(model: Any, seed: int, scale: float = 0.05) -> Any:
    """A copy whose matrices moved a little; norms stay."""
    import copy

    import torch

    out = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in out.parameters():
            if parameter.dim() == 2:
                parameter += scale * torch.randn(parameter.shape, generator=generator)
    return out


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def copy_task(path: Path, words: Sequence[str], *, n: int = 40, seed: int = 0) -> Path:
    """A task: say the word again."""
    chosen = random.Random(seed).choices(words, k=n)
    return write_rows(path, [{"prompt": f"say {w} {i}", "answer": w} for i, w in enumerate(chosen)])


def train(model: Any, samples: Sequence[Sample], *, steps: int, batch: int, lr: float, seed: int = 0) -> None:
    """A few steps of AdamW on the answers' loss."""
    import torch

    draw = random.Random(seed)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - i / steps)
    for _ in range(steps):
        logits, targets = answer_logits(model, draw.sample(list(samples), batch), pad_id=0)
        loss = torch.nn.functional.cross_entropy(logits.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
