"""Running checkpoints of the repository on a task: one model instance, many checkpoints.

What rank, connectivity and the merge methods with statistics share.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltavcs.checkpoint import layout as names
from deltavcs.checkpoint.materialize import load_state
from deltavcs.checkpoint.view import Content, View, view_of
from deltavcs.errors import ErrorKind, InvalidInputError, MissingDependencyError
from deltavcs.evaluation.encode import Sample, check_ids, context_length, encode_examples, pad_token
from deltavcs.evaluation.evaluator import Evaluation, Evaluator, Progress, summarize
from deltavcs.evaluation.models import BUILDING, build_model, config_directory
from deltavcs.evaluation.stored_model import StoredModel
from deltavcs.objects.model import Kind, Role
from deltavcs.oid import CommitId
from deltavcs.ranking.candidates import whole_keys
from deltavcs.repo import Repository
from deltavcs.resources import Resources
from deltavcs.storage.hub_client import HubOptions
from deltavcs.tasks.catalog import find_task
from deltavcs.tasks.reading import TaskRows, read_task
from deltavcs.tasks.sampling import sample_examples
from deltavcs.tasks.template import Example


@dataclass(frozen=True, slots=True)
class Probe:
    """What checkpoints are asked: samples of a task.

    Attributes:
        rows: the whole split.
        examples: the samples.
        samples: how many were asked for; there are fewer in a small split.
        seed: what drew them.
    """

    rows: TaskRows
    examples: tuple[Example, ...]
    samples: int
    seed: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A checkpoint to be run.

    Attributes:
        name: for messages.
        model_key: subjects of one key run in one model instance.
        frame: the whole checkpoint that gives architecture and, for an adapter, the weights below it.
        contents: the tensors that are exchanged: all of them, or the adapter's.
        adapter: the adapter, if it is one.
        tokenizers: views to look for a tokenizer in, in order.
    """

    name: str
    model_key: str
    frame: View
    contents: Mapping[str, Content]
    adapter: View | None
    tokenizers: tuple[View, ...]


def subject_of(repo: Repository, commit: CommitId, name: str, *, model_key: str | None = None) -> Subject:
    """A commit as something to run. Raises InvalidInputError without a config.json."""
    value = repo.commit(commit)
    manifest = repo.objects.get_manifest(value.manifest)
    view, base = view_of(manifest), value.parent_as(Role.BASE)
    below = view_of(repo.manifest(base)) if base is not None else None
    if value.kind is Kind.ADAPTER:
        if below is None:
            raise InvalidInputError(f"{name} is an adapter without a base", kind=ErrorKind.BAD_CHECKPOINT)
        return Subject(name, model_key or commit, below, view.primary, view, (view, below))
    key = model_key or whole_keys(repo.objects, manifest)[1]
    return Subject(name, key, view, view.primary, None, (view, below) if below else (view,))


class Prompts:
    """Samples tokenized as each checkpoint's own tokenizer does it, once per tokenizer. Thread-safe."""

    def __init__(self, repo: Repository, examples: Sequence[Example]) -> None:
        self._repo = repo
        self._examples = examples
        self._known: dict[tuple[object, ...], tuple[list[Sample], int]] = {}
        self._lock = threading.Lock()

    def samples(self, subject: Subject, model: Any) -> tuple[list[Sample], int]:
        """Samples and padding token for a subject.

        Raises:
            InvalidInputError: `bad-checkpoint` if neither it nor its base has a tokenizer.
        """
        view = next((v for v in subject.tokenizers if _tokenizer_files(v)), None)
        if view is None:
            raise InvalidInputError(
                f"{subject.name} has no tokenizer, and neither has its base", kind=ErrorKind.BAD_CHECKPOINT
            )
        key = (*_tokenizer_files(view), getattr(model.config, "max_position_embeddings", None))
        with self._lock:
            if key not in self._known:
                self._known[key] = self._encode(view, model)
            samples, pad_id = self._known[key]
        n_rows = model.get_input_embeddings().weight.shape[0]
        check_ids(samples, n_rows, name=subject.name)
        # Padding is masked: any row will do where a padding token was added and the model never resized.
        return samples, pad_id if pad_id < n_rows else 0

    def _encode(self, view: View, model: Any) -> tuple[list[Sample], int]:
        tokenizer = self._load(view)
        limit = context_length(model, tokenizer)
        return encode_examples(self._examples, tokenizer, max_length=limit), pad_token(tokenizer)

    def _load(self, view: View) -> Any:
        import transformers

        with config_directory(self._repo.objects, view) as folder:
            return transformers.AutoTokenizer.from_pretrained(folder)


def _tokenizer_files(view: View) -> tuple[tuple[str, str | None], ...]:
    files = tuple((f.path, f.blob) for f in view.files if f.keys is None and names.follows_finetune(f.path))
    if not names.holds_tokenizer(path for path, _ in files):
        return ()
    return files


class Bench:
    """One device with one model on it; runs subject after subject. Not thread-safe.

    Args:
        dtype: of the parameters, as safetensors spells it; None for each checkpoint's own.
    """

    def __init__(
        self,
        repo: Repository,
        prompts: Prompts,
        *,
        device: str = "cpu",
        dtype: str | None = None,
        batch_size: int | str = "auto",
        resources: Resources,
    ) -> None:
        self._repo = repo
        self._prompts = prompts
        self._device = checked_device(device)
        self._dtype = dtype
        self._resources = resources
        self._evaluator = Evaluator(pad_id=0, batch_size=batch_size)
        self._model_key: str | None = None
        self._stored: StoredModel | None = None

    def ask(self, prompts: Prompts) -> None:
        """Go on with other samples, on the model that is loaded."""
        self._prompts = prompts

    def load(self, subject: Subject) -> Any:
        """The model with the subject's weights. Builds a model only if the architecture is another one."""
        if self._stored is None or self._model_key != subject.model_key:
            self._stored = None  # drop the old model before the new one takes its memory
            self._stored = self._build(subject)
            self._model_key = subject.model_key
        self._stored.load(subject.contents)
        return self._stored.model

    def samples(self, subject: Subject) -> list[Sample]:
        """The probe's samples, tokenized for the subject."""
        return self._prompts.samples(subject, self.load(subject))[0]

    def evaluate(self, subject: Subject, *, split: str, progress: Progress | None = None) -> Evaluation:
        """Loss and accuracy of a subject. Raises as `Evaluator.score` does."""
        model = self.load(subject)
        samples, self._evaluator.pad_id = self._prompts.samples(subject, model)
        return summarize(samples, self._evaluator.score(model, samples, progress=progress), split=split)

    def _build(self, subject: Subject) -> StoredModel:
        objects, resources = self._repo.objects, self._resources
        state = load_state(objects, subject.frame, device="cpu", resources=Resources(resources.threads))
        with config_directory(self._repo.objects, subject.frame) as folder:
            model = build_model(folder, state, dtype=self._dtype).to(self._device).eval()
        del state
        if subject.adapter is None:
            return StoredModel(objects, model, resources, loaded=subject.frame.primary)
        with config_directory(self._repo.objects, subject.adapter) as folder:
            return StoredModel(objects, _wrap(model, str(folder)), resources)


def checked_device(device: str) -> str:
    """The device, if torch has it here.

    Raises:
        InvalidInputError: `bad-argument`.
    """
    import torch

    try:
        found = torch.device(device)
    except RuntimeError as exc:
        raise InvalidInputError(
            f"there is no kind of device called {device!r}",
            kind=ErrorKind.BAD_ARGUMENT,
            hint="Such as cpu, cuda, cuda:1 or mps.",
        ) from exc
    if found.type == "cpu":
        return device
    present = torch.accelerator.current_accelerator(check_available=True)
    if (
        present is None
        or present.type != found.type
        or (found.index or 0) >= torch.accelerator.device_count()
    ):
        raise InvalidInputError(
            f"this machine has no device {device}, or this torch ({torch.__version__}) cannot use it",
            kind=ErrorKind.BAD_ARGUMENT,
            hint="Run 'dvx doctor' to see what there is, or use --device cpu.",
        )
    return device


def _wrap(model: Any, folder: str) -> Any:
    """The model with an adapter of the configuration in `folder`, still without its weights."""
    try:
        import peft
    except ImportError as exc:
        raise MissingDependencyError(
            "evaluating adapters needs peft",
            kind=ErrorKind.MISSING_PACKAGE,
            hint="Install it: pip install peft",
        ) from exc
    with BUILDING, warnings.catch_warnings():
        # Advice about training, to people who only want a number.
        warnings.simplefilter("ignore")
        return peft.get_peft_model(model, peft.PeftConfig.from_pretrained(folder)).eval()


def open_probe(
    repo: Repository,
    task: str,
    *,
    samples: int,
    seed: int,
    split: str | None = None,
    hub: HubOptions | None = None,
) -> Probe:
    """Read a task's rows and draw the samples. Raises as `find_task` and `read_task` do."""
    rows = read_task(find_task(repo.objects, repo.refs, task), split=split, hub=hub)
    return Probe(rows, sample_examples(rows, samples, seed=seed), samples, seed)
