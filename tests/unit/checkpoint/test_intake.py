"""Which pattern decides: include, then exclude, then the ignore file, then the defaults."""

from __future__ import annotations

import pytest

from deltavcs.checkpoint.intake import Cause, Intake, Rules
from deltavcs.errors import ErrorKind, InvalidInputError

DEFAULTS = [
    "checkpoint-500/", "sub/checkpoint-1/", "optimizer.pt", "sub/optimizer.bin", "optimizer_0/",
    "scheduler.pt", "scheduler.bin",
    "rng_state.pth", "rng_state_3.pth", "random_states_0.pkl", "scaler.pt", "sampler.bin",
    "sampler_1.bin", "training_args.bin", "global_step500/", "zero_pp_rank_0_mp_rank_00_optim_states.pt",
    "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "pytorch_model_fsdp_0/", "runs/", "wandb/", "mlruns/",
    "events.out.tfevents.17.host", "__pycache__/", ".ipynb_checkpoints/", ".env", ".env.local", ".DS_Store",
    "tmp-checkpoint-5/", ".venv/", "node_modules/", ".netrc", "model.safetensors.incomplete",
    "._model.safetensors", "config.json~", ".config.json.swp", "#config.json#", ".idea/", ".vscode/",
]  # fmt: skip
KEPT = [
    "model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin", "trainer_state.json",
    "config.json",
    "tokenizer.json", "README.md", ".gitattributes", "optimizer.py", "checkpoint-500", "wandb", "runs.md",
    ".env.example",
    "pytorch_model_fsdp.bin", "latest", "zero_to_fp32.py", "unet/", "original/", "1_Pooling/", ".dvxignore",
]  # fmt: skip


@pytest.mark.parametrize("path", DEFAULTS)
def test_what_training_leaves_is_left_out(path):
    assert Rules(Intake()).judge(path) is Cause.DEFAULT


@pytest.mark.parametrize("path", KEPT)
def test_what_belongs_to_a_checkpoint_is_taken(path):
    assert Rules(Intake()).judge(path) is None


def test_include_before_exclude_before_the_ignore_file_before_the_defaults():
    path = "optimizer.pt"
    ignored = Rules(Intake(), "optimizer.pt\n")
    assert ignored.judge(path) is Cause.IGNORED
    assert Rules(Intake(), "!optimizer.pt\n").judge(path) is None
    assert Rules(Intake(exclude=("*.pt",)), "!optimizer.pt\n").judge(path) is Cause.EXCLUDED
    assert Rules(Intake(include=("*.pt",), exclude=("*.pt",)), "*.pt\n").judge(path) is None
    assert Rules(Intake(exclude=("*.pt", "!optimizer.pt"))).judge(path) is None
    assert Rules(Intake(paths=frozenset({path}), exclude=("*",))).judge(path) is None


@pytest.mark.parametrize(
    ("pattern", "hit", "miss"),
    [
        ("*.md", "a/b/x.md", "x.mdx"),
        ("/x.md", "x.md", "a/x.md"),
        ("logs/", "a/logs/", "logs"),
        ("a/**/z", "a/b/c/z", "b/z"),
        ("a/*.txt", "a/x.txt", "a/b/x.txt"),
        (r"\#x", "#x", "x"),
        ("x[0-9]", "x7", "xy"),
    ],
)
def test_patterns_are_those_of_gitignore(pattern, hit, miss):
    rules = Rules(Intake(exclude=(pattern,)))
    assert rules.judge(hit) is Cause.EXCLUDED
    assert rules.judge(miss) is None


def test_what_matched_nothing_is_known():
    rules = Rules(Intake(include=("*.pt", "*.x"), exclude=("*.md", "*.y", "!z")))
    for path in ("optimizer.pt", "README.md"):
        rules.judge(path)
    assert rules.unmatched == ("*.x", "*.y")


@pytest.mark.parametrize("pattern", ["", "  ", "!", "\\", "[z-a]"])
def test_what_is_no_pattern(pattern):
    for intake in (Intake(include=(pattern,)), Intake(exclude=(pattern,))):
        with pytest.raises(InvalidInputError) as caught:
            Rules(intake)
        assert caught.value.kind is ErrorKind.BAD_ARGUMENT


def test_what_is_no_pattern_in_the_ignore_file():
    with pytest.raises(InvalidInputError, match=r"\.dvxignore: not a pattern: '\[z-a\]'") as caught:
        Rules(Intake(), "# a comment\r\n\r\n*.md\r\n[z-a]\r\n")
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT
