"""What a `Trainer` knows at a save, as metadata of a commit."""

from __future__ import annotations

from typing import Any

_HYPER_PARAMETERS = (
    "adam_beta1", "adam_beta2", "adam_epsilon", "bf16", "fp16", "gradient_accumulation_steps",
    "label_smoothing_factor", "learning_rate", "lr_scheduler_type", "max_grad_norm", "max_steps",
    "num_train_epochs", "optim", "per_device_train_batch_size", "seed", "warmup_ratio", "warmup_steps",
    "weight_decay", "world_size",
)  # fmt: skip


def facts_of_save(args: Any, state: Any) -> dict[str, str]:
    """Step, losses and hyper-parameters as text."""
    facts = {"step": str(state.global_step)}
    if state.epoch is not None:
        facts["epoch"] = f"{state.epoch:g}"
    for key in ("loss", "eval_loss", "grad_norm"):
        value = next((entry[key] for entry in reversed(state.log_history) if key in entry), None)
        if isinstance(value, int | float):
            facts[key.replace("_", "-")] = repr(float(value))
    for key in _HYPER_PARAMETERS:
        value = getattr(args, key, None)
        if value is not None:
            facts[f"hyper.{key.replace('_', '-')}"] = str(getattr(value, "value", value))
    return facts
