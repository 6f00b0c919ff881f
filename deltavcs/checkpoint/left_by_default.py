"""What a trainer, an editor or the system leaves in a checkpoint's folder: no part of it unless asked for.

Patterns as in `.gitignore`. `trainer_state.json` is none of them: it is small and says how training went.
"""

from __future__ import annotations

import re
from collections.abc import Collection

LEFT_BY_DEFAULT = (
    # saves of a run inside the folder of its result
    "checkpoint-*/",
    "tmp-checkpoint-*/",
    # state of optimizers, schedulers, gradient scalers, samplers and random numbers: Trainer, accelerate
    "optimizer.pt",
    "optimizer.bin",
    "optimizer_*.bin",
    "optimizer.safetensors",
    "optimizer_[0-9]*/",
    "scheduler.pt",
    "scheduler.bin",
    "scheduler_*.bin",
    "lr_scheduler.pt",
    "scaler.pt",
    "scaler_*.pt",
    "sampler.bin",
    "sampler_*.bin",
    "dl_state_dict*.bin",
    "rng_state.pth",
    "rng_state_*.pth",
    "random_states_*.pkl",
    "custom_checkpoint_*.pkl",
    "training_args.bin",
    # DeepSpeed and FSDP
    "global_step*/",
    "zero_pp_rank_*",
    "*_zero_pp_rank_*",
    "*_optim_states.pt",
    "pytorch_model_fsdp*/",
    # logs
    "runs/",
    "wandb/",
    "mlruns/",
    "lightning_logs/",
    "events.out.tfevents.*",
    # Python, notebooks, secrets
    "__pycache__/",
    ".venv/",
    "node_modules/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".mypy_cache/",
    "*.pyc",
    ".ipynb_checkpoints/",
    ".env",
    ".env.*",
    "!.env.example",
    ".netrc",
    # downloads that have not ended
    "*.incomplete",
    # editors and systems
    ".idea/",
    ".vscode/",
    "*.swp",
    "*.swo",
    "*~",
    ".#*",
    r"\#*#",
    ".DS_Store",
    "._*",
    "Thumbs.db",
    "desktop.ini",
    ".directory",
    ".nfs*",
    "lost+found/",
    ".Trash-*/",
    "@eaDir/",
)

_PICKLED = re.compile(r"(?P<stem>.+?)(?:-\d+-of-\d+)?\.bin(?:\.index(?:\.[\w-]+)?\.json)?\Z")


def superseded(name: str, kept: Collection[str]) -> bool:
    """True for pickled weights that stand in the same folder as safetensors too, by their name.

    Args:
        name: of a file.
        kept: names of the other files of its folder.
    """
    found = _PICKLED.match(name)
    if found is None:
        return False
    stem = re.escape(re.sub(r"\Apytorch_model(?=\.|\Z)", "model", found["stem"]))
    twin = re.compile(rf"{stem}(?:-\d+-of-\d+)?\.safetensors(?:\.index(?:\.[\w-]+)?\.json)?\Z")
    return any(twin.match(other) for other in kept)
