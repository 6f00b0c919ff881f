"""One kind through every operation, each result held against what the library that owns it makes of it.

A cell is `right` only if that was shown; `refused` with the reason; anything else is `WRONG`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers as t
from kind import Kind
from safetensors.torch import load_file, save_file
from scoring import evaluate

import deltavcs as dv

OPERATIONS = ("import", "commit", "checkout", "fold", "transfer", "merge", "rank", "load_model")
RIGHT, WRONG, NONE = "right", "WRONG", "n/a"
TOLERANCE = 1e-6  # relative to the largest value of a tensor; where PEFT rounds in float32 and we in float64
ROWS = [
    {"prompt": f"Question: what is {a}{b}?\nAnswer:", "answer": f" {b}{a}"}
    for a in "abcd" for b in "efg"
]  # fmt: skip

State = dict[str, torch.Tensor]


@dataclass
class Cell:
    """What became of an operation.

    Attributes:
        outcome: `right`, `WRONG`, `–` where the operation makes no sense, else the words of the refusal.
        against: what it was proven against, or what was wrong.
    """

    outcome: str
    against: str = ""


@dataclass
class _Bench:
    """A kind on disk, in a repository.

    Attributes:
        merged: gives PEFT's merge of `tuned` into `base`.
    """

    kind: Kind
    root: Path
    repo: dv.Repository
    merged: Callable[[], Any] | None
    cells: dict[str, Cell] = field(default_factory=dict)

    def source(self, name: str) -> Path:
        """The files of a checkpoint as their owner wrote them."""
        return self.root / "files" / name

    def out(self, revision: str, **options: Any) -> Path:
        """A checkout in a new folder."""
        folder = self.root / "out" / f"{len(list((self.root / 'out').glob('*')))}"
        dv.checkout_files(self.repo, revision, folder, **options)
        return folder

    def state(self, folder: Path) -> State:
        """The weights of a folder; of a quantised one in float64."""
        if self.kind.dequantised is not None and "quantization_config" in _config(folder):
            return self.kind.dequantised(folder)
        if self.kind.finetune_config:
            # What a bare base lacks is random, and the same for both bases: a sum is free of it.
            torch.manual_seed(0)
            return _loaded(folder, like=self.source("tuned"))
        return _tensors(folder) if self.kind.raw else _loaded(folder)


def cells_of(kind: Kind, folder: Path) -> dict[str, Cell]:
    """Every operation on a kind, made in `folder`."""
    merged = kind.make(folder / "files")
    (folder / "out").mkdir()
    repo = dv.init(folder / "repository", sync=False)
    repo = repo.using(identity=dv.Identity("Ada <ada@example.org>"))
    bench = _Bench(kind, folder, repo, merged)
    steps: dict[str, Callable[[_Bench], Cell]] = {
        "import": _import,
        "commit": _commit,
        "checkout": _checkout,
        "fold": _fold,
        "transfer": _transfer,
        "merge": _merge,
        "rank": _rank,
        "load_model": _load,
    }
    for name, step in steps.items():
        needed = {"import": [], "commit": ["import"]}.get(name, ["import", "commit"])
        if any(bench.cells[n].outcome != RIGHT for n in needed):
            bench.cells[name] = Cell(NONE)
            continue
        try:
            bench.cells[name] = step(bench)
        except dv.DeltaVCSError as exc:
            bench.cells[name] = Cell(str(exc).replace(str(folder / "files") + "/", ""))
        except Exception as exc:  # what must never happen is a cell of its own
            bench.cells[name] = Cell(WRONG, f"{type(exc).__name__}: {exc}")
    return bench.cells


def _import(bench: _Bench) -> Cell:
    for name in ("base", "new"):
        draft = dv.Draft(name)
        dv.import_base(bench.repo, str(bench.source(name)), draft=draft, allow_pickle=bench.kind.pickled)
    return Cell(RIGHT, "the files' SHA-256")


def _commit(bench: _Bench) -> Cell:
    for name in ("tuned", "other"):
        source = str(bench.source(name))
        dv.commit(bench.repo, source, base="base", draft=dv.Draft(name), allow_pickle=bench.kind.pickled)
    return Cell(RIGHT, "the files' SHA-256")


def _checkout(bench: _Bench) -> Cell:
    for name in ("base", "tuned", "other", "new"):
        ours = _digests(bench.out(name))
        theirs = _digests(bench.source(name))
        if bench.kind.pickled:
            ours, theirs = ({k: v for k, v in d.items() if k == "config.json"} for d in (ours, theirs))
        if ours != theirs:
            return Cell(WRONG, f"{name}: {sorted(set(ours.items()) ^ set(theirs.items()))[:3]}")
    return Cell(RIGHT, "the files' SHA-256")


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".dvx-checkout.json"
    }


def _fold(bench: _Bench) -> Cell:
    if not bench.kind.adapter:
        return Cell(NONE)
    folder = bench.out("tuned", merge_adapter=True)
    if bench.merged is None:
        return Cell(WRONG, "folded, and PEFT merges no such adapter")
    return _equal(_loaded(folder), bench.merged().state_dict(), "PEFT's merge", TOLERANCE)


def _transfer(bench: _Bench) -> Cell:
    carrying = dv.Carrying(
        config="finetune" if bench.kind.finetune_config else "target",
        dequantize=bench.kind.dequantised is not None,
    )
    dv.transfer(bench.repo, "tuned", "new", carrying=carrying, draft=dv.Draft("moved"))
    if bench.kind.packed:
        return Cell(WRONG, "added packed numbers")
    if bench.kind.adapter:
        return _same_factors(bench)
    states = [bench.state(bench.source(name)) for name in ("new", "tuned", "base")]
    ours, total = bench.state(bench.out("moved")), _sum(*states)
    return _equal(ours, _rounded_as(ours, total), "float64 sums", 0)


def _same_factors(bench: _Bench) -> Cell:
    """A transferred adapter has the factors it had."""
    ours, theirs = (_tensors(f) for f in (bench.out("moved"), bench.source("tuned")))
    factors = {k for k in theirs if "lora_" in k}
    if not factors or not factors <= ours.keys():
        return Cell(WRONG, f"{len(factors - ours.keys())} factors are gone")
    if any(not torch.equal(ours[k], theirs[k]) for k in factors):
        return Cell(WRONG, "other factors")
    return Cell(RIGHT, "the factors, bit for bit")


def _merge(bench: _Bench) -> Cell:
    dequantize = bench.kind.dequantised is not None
    average = dv.MergeMethod("average")
    dv.merge(bench.repo, ["tuned", "other"], average, draft=dv.Draft("both"), dequantize=dequantize)
    if bench.kind.packed:
        return Cell(WRONG, "averaged packed numbers")
    load = _tensors if bench.kind.adapter else bench.state
    one, two = (load(bench.source(name)) for name in ("tuned", "other"))
    mean = {k: _rounded((v.double() + two[k].double()) / 2, v) for k, v in one.items()}
    ours = load(bench.out("both"))
    return _equal(ours, _rounded_as(ours, mean), "float64 means", 0)


def _rank(bench: _Bench) -> Cell:
    if not bench.kind.asks:
        return Cell(NONE)
    rows = bench.root / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    dv.add_task(bench.repo, "rows", rows)
    running = dv.Running(samples=len(ROWS), devices=("cpu",))
    # What an adapter sits on, or the fine-tune and what was made of it: other sizes are ranked apart.
    selection = dv.Selection(base="base" if bench.kind.adapter else "tuned")
    found = dv.rank(bench.repo, "rows", selection=selection, running=running)
    names = {r.name: r.loss for r in found.ranked}
    failed = [f.why for f in found.failed if f.name == "tuned"]
    if failed or "tuned" not in names:
        return Cell(failed[0] if failed else "not ranked")
    return _same_loss(bench, names["tuned"])


def _same_loss(bench: _Bench, loss: float) -> Cell:
    from deltavcs.tasks.catalog import find_task
    from deltavcs.tasks.reading import read_task
    from deltavcs.tasks.sampling import sample_examples

    read = read_task(find_task(bench.repo.objects, bench.repo.refs, "rows"))
    examples = sample_examples(read, len(ROWS), seed=0)
    tuned = bench.source("tuned")
    own = (tuned / "tokenizer.json").is_file()
    tokenizer = t.AutoTokenizer.from_pretrained(tuned if own else bench.source("base"))
    fresh = evaluate(_model(tuned, bench).eval(), tokenizer, examples, split="train")
    if abs(fresh.loss - loss) > 1e-6 * abs(fresh.loss):
        return Cell(WRONG, f"loss {loss}, freshly loaded {fresh.loss}")
    return Cell(RIGHT, "the loss of a fresh `from_pretrained`")


def _load(bench: _Bench) -> Cell:
    if bench.kind.dequantised is not None:
        ours = dv.load_model(bench.repo, "tuned", dequantize=True).state_dict()
        return _equal(ours, _rounded_as(ours, bench.state(bench.source("tuned"))), "its formula", 0)
    ours = dv.load_model(bench.repo, "tuned").state_dict()
    theirs = _model(bench.source("tuned"), bench).state_dict()
    # PEFT keeps what a trained head replaces, and never uses it: a new head's random start.
    ours, theirs = ({k: v for k, v in x.items() if ".original_module." not in k} for x in (ours, theirs))
    return _equal(ours, theirs, "`from_pretrained`", 0)


def _model(folder: Path, bench: _Bench) -> Any:
    """As transformers, or PEFT, loads it by itself."""
    if not bench.kind.adapter:
        return _whole(folder, folder)
    import peft

    found = peft.PeftConfig.from_pretrained(folder)
    base = _loader(found.task_type, bench.source("base"))(bench.source("base"))
    rows = [v.shape[0] for k, v in _tensors(folder).items() if k.endswith("embed_tokens.weight")]
    if rows and rows[0] != base.config.vocab_size:
        base.resize_token_embeddings(rows[0], mean_resizing=False)
    return peft.PeftModel.from_pretrained(base, _without_wrapper(folder, bench.root / "unwrapped"))


def _without_wrapper(folder: Path, copy: Path) -> Path:
    """An adapter under the names that PEFT reads: it passes over those of a compiled model without a word."""
    found = _tensors(folder)
    if not any(k.startswith("_orig_mod.") for k in found):
        return folder
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    plain = {k.removeprefix("_orig_mod."): v for k, v in found.items()}
    save_file(plain, copy / "adapter_model.safetensors", {"format": "pt"})
    return copy


def _loader(task: str | None, base: Path) -> Callable[[Path], Any]:
    """What a user calls to load the model that an adapter of a task was trained in."""
    architecture = json.loads(_config(base))["architectures"][0]
    if architecture.endswith("ForConditionalGeneration"):
        loader: Callable[[Path], Any] = getattr(t, architecture).from_pretrained
        return loader
    heads = {
        "SEQ_CLS": partial(t.AutoModelForSequenceClassification.from_pretrained, num_labels=3),
        "TOKEN_CLS": partial(t.AutoModelForTokenClassification.from_pretrained, num_labels=5),
    }
    return heads.get(task or "", t.AutoModelForCausalLM.from_pretrained)


def _whole(folder: Path, like: Path) -> Any:
    if "_diffusers_version" in _config(folder):
        import diffusers

        return diffusers.UNet2DConditionModel.from_pretrained(folder)
    return getattr(t, json.loads(_config(like))["architectures"][0]).from_pretrained(folder)


def _config(folder: Path) -> str:
    return (folder / "config.json").read_text()


def _loaded(folder: Path, like: Path | None = None) -> State:
    """Every tensor of a folder's models, as the library that owns them loads it.

    Args:
        like: loaded as the class that this folder names.
    """
    if (folder / "model_index.json").is_file():
        parts = sorted(path.parent for path in folder.glob("*/config.json"))
        return {f"{p.name}/{k}": v for p in parts for k, v in _whole(p, p).state_dict().items()}
    if any(folder.glob("*.safetensors")) and not (folder / "config.json").is_file():
        return _tensors(folder)
    state: State = _unwrapped(folder) or _whole(folder, like or folder).state_dict()
    return state


def _unwrapped(folder: Path) -> State:
    """The weights of a model that was saved through a wrapper, which transformers itself cannot load."""
    found = _tensors(folder)
    prefix = next((p for p in ("_orig_mod.", "module.") if all(k.startswith(p) for k in found)), None)
    return {k.removeprefix(prefix): v for k, v in found.items()} if prefix else {}


def _tensors(folder: Path) -> State:
    return {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}


def _sum(new: State, tuned: State, base: State) -> State:
    """m_t + (m'_s − m_s), rows and tensors that a model lacks counted as zeros."""
    out = {}
    for name, value in tuned.items():
        if not value.is_floating_point():
            out[name] = value
            continue
        total = value.double()
        for sign, model in ((1, new), (-1, base)):
            if name in model:
                _add(total, sign * model[name].double())
        out[name] = _rounded(total, new.get(name, value))
    return out


def _add(total: torch.Tensor, part: torch.Tensor) -> None:
    total[tuple(slice(0, n) for n in part.shape)] += part


def _rounded(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return value.to(like.dtype)


def _rounded_as(ours: State, truth: State) -> State:
    """Sums of dequantised weights have no dtype of their own: they are rounded to the result's, bfloat16."""
    short = {k for k, v in ours.items() if v.dtype == torch.bfloat16}
    return {k: _nearest(v) if v.dtype == torch.float64 and k in short else v for k, v in truth.items()}


def _nearest(exact: torch.Tensor) -> torch.Tensor:
    """The nearest bfloat16; torch itself goes through float32 and may round twice."""
    about = exact.to(torch.bfloat16)
    beside = [(about.view(torch.int16) + step).view(torch.bfloat16) for step in (-1, 1)]
    for other in beside:
        nearer = (other.double() - exact).abs() < (about.double() - exact).abs()
        about = torch.where(nearer, other, about)
    return about


def _equal(ours: State, theirs: State, against: str, tolerance: float) -> Cell:
    if ours.keys() != theirs.keys():
        return Cell(WRONG, f"other names: {sorted(ours.keys() ^ theirs.keys())[:4]}")
    for name, truth in theirs.items():
        if ours[name].shape != truth.shape:
            return Cell(WRONG, f"{name} has shape {tuple(ours[name].shape)} and not {tuple(truth.shape)}")
        if torch.equal(ours[name], truth) or not truth.is_floating_point():
            continue
        worst = float((ours[name].double() - truth.double()).abs().max() / truth.double().abs().max())
        if not worst <= tolerance:
            return Cell(WRONG, f"{name} differs by {worst:.2g}")
    return Cell(RIGHT, against)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars or reports of the libraries that make the kinds."""
    import warnings

    logging = t.utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
