"""The paper's central effect on models trained before your eyes: `make demo`.

1. Train a small Llama from scratch to copy words of 3 to 7 letters (v1, "the base model").
2. Train it further, on longer words too (v2, "the new release").
3. Fine-tune v1 to write every letter's successor: `bad` becomes `cbe`.
4. Commit all three, and recycle the fine-tune: dvx transfer --from v1 --to v2.
5. Measure v2, v2 + Δ and v1's fine-tune on words that none of them has seen.

Nothing is downloaded; every number below is measured in this run.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

logging.disable_progress_bar()

LETTERS = "abcdefghijklmnop"
SPECIAL = ["<pad>", "<end>", ">"]
VOCABULARY = {t: i for i, t in enumerate([*SPECIAL, *LETTERS])}
PAD, END, ARROW = 0, 1, 2
SHORT, LONG = (4, 5, 6), (7, 8)
HELD_OUT = 1_000


def is_held_out(word: str) -> bool:
    """One word in eight is never trained on, by a fixed rule."""
    return sum((i + 1) * ord(c) for i, c in enumerate(word)) % 8 == 0


def words(rng: random.Random, n: int, lengths: tuple[int, ...], *, held_out: bool) -> list[str]:
    """`n` random words of the given lengths, from the held-out ones or from the others."""
    out: list[str] = []
    while len(out) < n:
        word = "".join(rng.choice(LETTERS) for _ in range(rng.choice(lengths)))
        if is_held_out(word) == held_out:
            out.append(word)
    return out


def copy(word: str) -> str:
    """What the base models learn."""
    return word


def successor(word: str) -> str:
    """What the fine-tune learns: the next letter for each, `a` after the last."""
    return "".join(LETTERS[(LETTERS.index(c) + 1) % len(LETTERS)] for c in word)


Answer = Callable[[str], str]


def batch(chosen: list[str], answer: Answer) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of `word>answer<end>` and labels that count only the answer; padded right."""
    width = 2 * max(map(len, chosen)) + 2
    ids = torch.full((len(chosen), width), PAD)
    labels = torch.full((len(chosen), width), -100)
    for row, word in enumerate(chosen):
        tokens = [*(VOCABULARY[c] for c in word), ARROW, *(VOCABULARY[c] for c in answer(word)), END]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, len(word) + 1 : len(tokens)] = ids[row, len(word) + 1 : len(tokens)]
    return ids, labels


def new_model() -> LlamaForCausalLM:
    """A Llama of 134,000 parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=END,
    )
    return LlamaForCausalLM(config)


def train(
    model: LlamaForCausalLM, *, steps: int, rate: float, seed: int, lengths: tuple[int, ...], answer: Answer
) -> None:
    """Train on fresh random words."""
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    model.train()
    for _ in range(steps):
        ids, labels = batch(words(rng, 64, lengths, held_out=False), answer)
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(model: LlamaForCausalLM, lengths: tuple[int, ...], answer: Answer) -> float:
    """Share of held-out words answered without any mistake, each token judged after the right ones."""
    ids, labels = batch(words(random.Random(99), HELD_OUT, lengths, held_out=True), answer)
    model.eval()
    guess, want = model(input_ids=ids).logits[:, :-1].argmax(-1), labels[:, 1:]
    return ((guess == want) | (want == -100)).all(dim=1).float().mean().item()


def save(model: LlamaForCausalLM, folder: Path) -> Path:
    """Save model and tokenizer in bfloat16, as models are published."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    model.to(torch.bfloat16).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def load(folder: Path) -> LlamaForCausalLM:
    """Load a checkpoint for training or evaluation in float32."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def dvx(*arguments: str) -> None:
    """Run a dvx command where the user can see it."""
    shown = " ".join(f"'{a}'" if " " in a else a for a in arguments)
    print(f"\n$ dvx {shown}", flush=True)
    program = shutil.which("dvx", path=str(Path(sys.executable).parent)) or "dvx"
    subprocess.run([program, *arguments], check=True)


def say(started: float, text: str) -> None:
    """Print a line with the time since the start."""
    print(f"[{time.monotonic() - started:5.1f} s] {text}", flush=True)


def train_all(folder: Path, started: float) -> None:
    """Make the three checkpoints."""
    say(started, "training v1: a small Llama learns to copy words of 3 to 7 letters")
    model = new_model()
    train(model, steps=700, rate=3e-3, seed=1, lengths=(3, 4, 5, 6, 7), answer=copy)
    save(model, folder / "v1")
    say(started, "training v2, the new release: v1 goes on with words of 3 to 8 letters")
    model = load(folder / "v1")
    train(model, steps=150, rate=2e-4, seed=2, lengths=(3, 4, 5, 6, 7, 8), answer=copy)
    save(model, folder / "v2")
    say(started, "fine-tuning v1: write the next letter for each, 'bad' becomes 'cbe'")
    model = load(folder / "v1")
    train(model, steps=200, rate=5e-4, seed=3, lengths=(3, 4, 5, 6), answer=successor)
    save(model, folder / "successor")


def commands(folder: Path) -> None:
    """Commit everything and recycle the fine-tune."""
    os.environ["DVX_REPO"] = str(folder)
    dvx("init", str(folder))
    dvx("import", str(folder / "v1"), "--as", "v1")
    dvx("import", str(folder / "v2"), "--as", "v2")
    dvx("commit", str(folder / "successor"), "--base", "v1", "-m", "write the next letter for each")
    dvx("transfer", "--from", "v1", "--to", "v2")
    dvx("checkout", "v2+successor", "-o", str(folder / "v2+successor"))
    dvx("log", "--graph")
    dvx("du")


def report(folder: Path) -> bool:
    """Print what was measured on held-out words; True if the effect shows."""
    rows = [
        ("v2", "v2, the new base"),
        ("v2+successor", "v2 + Δ, not trained further"),
        ("successor", "v1's own fine-tune"),
    ]
    print(f"\nHeld-out words answered without a mistake ({HELD_OUT:,} of each kind):\n")
    print(f"  {'':30}{'successor,':>14}{'successor,':>14}{'copying,':>14}")
    print(f"  {'':30}{'4-6 letters':>14}{'7-8 letters':>14}{'7-8 letters':>14}")
    short = {}
    for name, title in rows:
        model = load(folder / name)
        short[name] = accuracy(model, SHORT, successor)
        long, copied = accuracy(model, LONG, successor), accuracy(model, LONG, copy)
        print(f"  {title:30}{short[name]:>14.1%}{long:>14.1%}{copied:>14.1%}")
    gain, full = short["v2+successor"] - short["v2"], short["successor"] - short["v2"]
    shows = full > 0.2 and gain > 0.5 * full
    print()
    if shows:
        print(f"Δ, taken from v1, gives v2 {gain / full:.0%} of what fine-tuning gave v1, without training.")
    else:
        print(f"The effect does not show in this run: v2 gained {gain:+.1%}, the fine-tune {full:+.1%}.")
    return shows


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("demo-run"), help="where to work; emptied first")
    folder = parser.parse_args().folder
    if folder.exists():
        if not (folder / ".dvx").exists() and any(folder.iterdir()):
            sys.exit(f"{folder} holds something else; name another folder with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    torch.set_num_threads(1)  # a model this small only loses time to more
    started = time.monotonic()
    train_all(folder, started)
    commands(folder)
    shows = report(folder)
    say(started, f"done; everything is in {folder}")
    sys.exit(0 if shows else 1)


if __name__ == "__main__":
    main()
