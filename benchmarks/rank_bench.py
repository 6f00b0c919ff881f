"""What ranking costs beside the forward passes, and how much memory it takes.

    python benchmarks/rank_bench.py [--candidates 6] [--samples 64] [--hidden 512] [--layers 8] [--out FILE]

Builds a repository of a base and fine-tunes in which every matrix differs, then measures, each in a process
of its own: one model load from the repository with one evaluation, and the whole ranking. Prints

    ratio    time of the ranking ÷ (one load + N × one bare evaluation)      wanted: at most 1.25
    copies   peak memory above the imports, in sizes of the model            wanted: below 2, plus activations
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = "what is the way to the old house by the river and who knows it best of all".split()


def build(root: Path, n: int, hidden: int, layers: int) -> None:
    """A base and `n` fine-tunes of a Llama with a word tokenizer, and a task of 512 rows."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from deltavcs.porcelain.commit import commit
    from deltavcs.porcelain.import_ import import_base
    from deltavcs.porcelain.task import add_task
    from deltavcs.repo import init_repository
    from deltavcs.signature import Signature
    from deltavcs.steps.recording import Draft

    repo = init_repository(root / "repo", sync=False)
    sign = Signature("bench", 1)
    vocabulary = {w: i for i, w in enumerate(["<pad>", "<unk>", *sorted(set(WORDS))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8192, hidden_size=hidden, intermediate_size=hidden * 11 // 4, num_hidden_layers=layers,
            num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=512,
        )
    ).to(torch.bfloat16)  # fmt: skip
    for i in range(n):
        if i:
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() == 2:
                        parameter += 1e-4 * torch.randn_like(parameter)
        folder = root / f"c{i}"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if i == 0:
            import_base(repo, str(folder), draft=Draft("c0", signature=sign))
        else:
            commit(repo, str(folder), base="c0", draft=Draft(f"c{i}", signature=sign))
    draw = random.Random(0)
    rows = [
        {"prompt": " ".join(draw.choices(WORDS, k=draw.randint(40, 90))), "answer": draw.choice(WORDS)}
        for _ in range(512)
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    add_task(repo, "words", root / "rows.jsonl", signature=sign)


def current_bytes() -> int:
    """Resident memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def peak_bytes() -> int:
    """Most resident memory so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def settle() -> None:
    """Import and warm up everything, so that neither time nor memory of it is counted."""
    import torch
    import transformers

    import deltavcs.porcelain.rank

    torch.set_num_threads(1)
    torch.randn(256, 256, dtype=torch.bfloat16) @ torch.randn(256, 256, dtype=torch.bfloat16)
    assert transformers.LlamaForCausalLM and deltavcs.porcelain.rank


def bare(root: Path, samples: int) -> dict[str, float]:
    """One load and the bare evaluation of one model, after a first one that warms it up."""
    from deltavcs.evaluation.evaluator import Evaluator
    from deltavcs.evaluation.prompts import Prompts
    from deltavcs.evaluation.subject import subject_of
    from deltavcs.porcelain.load import load_model
    from deltavcs.repo import open_repository
    from deltavcs.steps.running import Running, open_probe

    repo = open_repository(root / "repo")
    probe = open_probe(repo, "words", Running(samples=samples))
    before = current_bytes()
    start = time.perf_counter()
    model = load_model(repo, "c1")
    load_s = time.perf_counter() - start
    encoded, pad = Prompts(repo.objects, probe.examples).samples(
        subject_of(repo.objects, repo.resolve("c1"), "c1"), model
    )
    evaluator = Evaluator(pad_id=pad)
    evaluator.score(model, encoded[:8])
    start = time.perf_counter()
    evaluator.score(model, encoded)
    forward_s = time.perf_counter() - start
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return {"load_s": load_s, "forward_s": forward_s, "peak": peak_bytes() - before, "model": size}


def whole(root: Path, samples: int) -> dict[str, float]:
    """The ranking."""
    from deltavcs.porcelain.rank import rank
    from deltavcs.repo import open_repository
    from deltavcs.steps.running import Running

    repo = open_repository(root / "repo")
    before = current_bytes()
    start = time.perf_counter()
    found = rank(repo, "words", running=Running(samples=samples))
    return {"rank_s": time.perf_counter() - start, "n": len(found.ranked), "peak": peak_bytes() - before}


def child(mode: str, root: Path, samples: int) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    words = [sys.executable, __file__, "--mode", mode, "--root", str(root), "--samples", str(samples)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", choices=["all", "bare", "rank"], default="all")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.mode != "all":
        settle()
        print(json.dumps((bare if args.mode == "bare" else whole)(args.root, args.samples)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build(root, args.candidates, args.hidden, args.layers)
        one, both = child("bare", root, args.samples), child("rank", root, args.samples)
    n, size = both["n"], one["model"]
    report = {
        "candidates": n,
        "samples": args.samples,
        "model_bytes": size,
        "load_s": round(one["load_s"], 3),
        "forward_s": round(one["forward_s"], 3),
        "rank_s": round(both["rank_s"], 3),
        "ratio": round(both["rank_s"] / (one["load_s"] + n * one["forward_s"]), 3),
        "copies_load_and_forward": round(one["peak"] / size, 2),
        "copies_rank": round(both["peak"] / size, 2),
    }
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
