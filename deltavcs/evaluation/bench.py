"""One device, one model on it, many checkpoints."""

from __future__ import annotations

from typing import Any

from deltavcs.checkpoint.device import checked_device
from deltavcs.checkpoint.quantised import quantisations_of
from deltavcs.errors import ErrorKind, InvalidInputError, reason_of
from deltavcs.evaluation.adapter_model import StoredAdapter, load_adapted
from deltavcs.evaluation.encode import Sample
from deltavcs.evaluation.evaluator import Evaluation, Evaluator, Progress, is_out_of_memory, summarize
from deltavcs.evaluation.models import build_model
from deltavcs.evaluation.prompts import Prompts
from deltavcs.evaluation.stored_model import StoredModel
from deltavcs.evaluation.subject import Subject
from deltavcs.objects.store import ObjectStore
from deltavcs.resources import Resources


class Bench:
    """One device with one model on it; runs subject after subject. Not thread-safe.

    Args:
        device: as torch spells it.
        dtype: of the parameters, as safetensors spells it; None for each checkpoint's own.
        batch_size: see `Evaluator`.

    Raises:
        InvalidInputError: `bad-argument` if there is no such device here.
        MissingDependencyError: torch is not installed.
    """

    def __init__(
        self,
        objects: ObjectStore,
        prompts: Prompts,
        *,
        device: str = "cpu",
        dtype: str | None = None,
        batch_size: int | str = "auto",
        resources: Resources,
    ) -> None:
        self._objects = objects
        self._prompts = prompts
        self._device = checked_device(device)
        self._dtype = dtype
        self._resources = resources
        self._evaluator = Evaluator(pad_id=0, batch_size=batch_size)
        self._model_key: str | None = None
        self._stored: StoredModel | StoredAdapter | None = None
        self._last: Subject | None = None

    def ask(self, prompts: Prompts) -> None:
        """Go on with other samples, on the model that is loaded."""
        self._prompts = prompts

    def load(self, subject: Subject) -> Any:
        """The model with the subject's weights. Builds a model only if the architecture is another one.

        Raises:
            InvalidInputError: `bad-checkpoint` or `incompatible` for what cannot be run; says why, not which.
        """
        if self._stored is None or self._model_key != subject.model_key or self._is_spent(subject):
            self._stored = None  # drop the old model before the new one takes its memory
            self._stored = self._build(subject)
            self._model_key, self._last = subject.model_key, subject
        self._stored.load(subject.contents)
        return self._stored.model

    def _is_spent(self, subject: Subject) -> bool:
        """True if the model ran another subject and is quantised.

        bitsandbytes packs weights anew when a model runs on a CPU, and unpacks them wrong when its state is
        read, as PEFT does to exchange an adapter.
        """
        return self._last is not subject and bool(quantisations_of(self._objects, subject.frame))

    def samples(self, subject: Subject) -> list[Sample]:
        """The probe's samples, tokenized for the subject."""
        return self._prompts.samples(subject, self.load(subject))[0]

    def evaluate(self, subject: Subject, *, split: str, progress: Progress | None = None) -> Evaluation:
        """Loss and accuracy of a subject.

        Raises:
            InvalidInputError: as `load` and `Evaluator.score` raise; `bad-checkpoint` if running it fails.
        """
        model = self.load(subject)
        samples, self._evaluator.pad_id = self._prompts.samples(subject, model)
        try:
            scores = self._evaluator.score(model, samples, progress=progress)
        except (RuntimeError, TypeError, AttributeError) as exc:
            if is_out_of_memory(exc) or isinstance(exc, _device_errors()):
                raise
            raise InvalidInputError(
                f"running it fails: {reason_of(exc)}", kind=ErrorKind.BAD_CHECKPOINT
            ) from exc
        return summarize(samples, scores, split=split)

    def _build(self, subject: Subject) -> StoredModel | StoredAdapter:
        objects, resources = self._objects, self._resources
        alone = Resources(resources.threads)
        if subject.adapter is not None:
            model = load_adapted(
                objects, subject.frame, subject.adapter, dtype=self._dtype, causal=True, resources=alone
            )
            return StoredAdapter(objects, model.to(self._device), resources)
        model = build_model(
            objects, subject.frame, dtype=self._dtype, causal=True, swapped=True, resources=alone
        )
        return StoredModel(objects, model.to(self._device), resources, loaded=subject.frame.primary)


def _device_errors() -> tuple[type[Exception], ...]:
    """What torch raises when it is the device that failed, and nothing about the checkpoint."""
    import torch

    found = getattr(torch, "AcceleratorError", None)
    return (found,) if found is not None else ()
