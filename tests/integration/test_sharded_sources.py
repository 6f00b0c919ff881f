"""Shards, indexes and files beside them: what transformers loads counts, and every byte comes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_llama import build_model
from transformers import AutoModelForCausalLM

from deltavcs.checkpoint.intake import Intake
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.porcelain.checkout import checkout, checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import Imported, import_base
from deltavcs.porcelain.load import load_model
from deltavcs.porcelain.merge import merge
from deltavcs.porcelain.status import status
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import Repository
from deltavcs.steps.recording import Draft

Sign = Callable[..., Any]
INDEX = "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded") / "m"
    build_model(seed=1).save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


@pytest.fixture
def source(sharded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sharded, tmp_path / "m"))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-0*.safetensors"))


def edit_index(folder: Path) -> Any:
    return json.loads((folder / INDEX).read_text())


def write_index(folder: Path, index: Any) -> None:
    (folder / INDEX).write_text(json.dumps(index))


def overlay(source: Path, name: str, said: str | None = None) -> None:
    """One more shard with another embedding, for which the index names it, or `said`, and the last norm."""
    index = edit_index(source)
    first, last = (source / index["weight_map"][key] for key in (EMBEDDING, NORM))
    rest = load_file(last)
    tensors = {EMBEDDING: load_file(first)[EMBEDDING] + 1, NORM: rest.pop(NORM)}
    save_file(rest, last, {"format": "pt"})
    save_file(tensors, source / name, {"format": "pt"})
    index["weight_map"] |= {EMBEDDING: said or name, NORM: name}
    write_index(source, index)


def imported(
    repo: Repository, source: Path, sign: Sign, intake: Intake | None = None, unknown: str = ""
) -> Imported:
    """Import it, and prove that it comes back and is what transformers reads of the source.

    Args:
        unknown: a tensor that no model of this kind has, so that it is not loaded.
    """
    done = import_base(repo, str(source), intake=intake, draft=Draft("m", signature=sign()))
    checkout_files(repo, "m", source.parent / "out")
    for path in (p for p in source.rglob("*") if p.is_file()):
        assert (source.parent / "out" / path.relative_to(source)).read_bytes() == path.read_bytes()
    assert status(repo, source.parent / "out").clean
    theirs = AutoModelForCausalLM.from_pretrained(source).state_dict()
    if unknown:
        with pytest.raises(InvalidInputError, match=f"the model of config.json has no {unknown}"):
            load_model(repo, "m")
        ours = {k: v for k, v in checkout(repo, "m").items() if k != unknown}
    else:
        ours = load_model(repo, "m").state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    return done


def test_an_overlay_that_index_and_order_agree_on(repo: Repository, source: Path, sign: Sign) -> None:
    overlay(source, "model-overlay.safetensors")
    done = imported(repo, source, sign)
    assert [(x.name, x.taken, x.index) for x in done.findings.overlaid] == [
        (EMBEDDING, "model-overlay.safetensors", "model-overlay.safetensors")
    ]


@pytest.mark.parametrize("name", ["a-overlay.safetensors", "model-overlay.safetensors"])
def test_an_overlay_where_the_index_says_otherwise(
    repo: Repository, source: Path, sign: Sign, name: str
) -> None:
    """Transformers reads whole shards in the order of their names, whatever the index says."""
    first = edit_index(source)["weight_map"][EMBEDDING]
    said = name if name < first else first
    overlay(source, name, said)
    [found] = imported(repo, source, sign).findings.overlaid
    assert (found.taken, found.index) == (max(name, first), said)
    assert found.taken != found.index


def test_tensors_that_the_index_does_not_name(repo: Repository, source: Path, sign: Sign) -> None:
    last = source / edit_index(source)["weight_map"][NORM]
    save_file(load_file(last) | {"mtp.fc.weight": torch.ones(4, 4)}, last, {"format": "pt"})
    index = edit_index(source)
    index["weight_map"].pop(NORM)  # of the model, and read with its shard
    write_index(source, index)
    done = imported(repo, source, sign, unknown="mtp.fc.weight")
    assert set(done.findings.unnamed) == {"mtp.fc.weight", NORM}


def test_the_one_file_counts_before_the_shards(repo: Repository, source: Path, sign: Sign) -> None:
    build_model(seed=2).save_pretrained(source / "new")
    shutil.move(source / "new" / "model.safetensors", source)
    shutil.rmtree(source / "new")
    done = imported(repo, source, sign)
    assert set(done.findings.beside) == {INDEX, *(p.name for p in shards(source))}


def test_other_sets_are_kept_and_not_mixed(repo: Repository, source: Path, sign: Sign) -> None:
    names = [
        "consolidated.safetensors",
        "model.fp16.safetensors",
        "original/model-00001-of-00001.safetensors",
    ]
    (source / "original").mkdir()
    for name in names:
        save_file({EMBEDDING: torch.zeros(2, 2), "tok": torch.ones(1)}, source / name)
    done = imported(repo, source, sign)
    assert done.findings.beside == tuple(names)
    assert set(repo.manifest(done.recorded.commit).primary) == set(edit_index(source)["weight_map"])


def test_a_transfer_to_an_overlaid_base(repo: Repository, source: Path, tmp_path: Path, sign: Sign) -> None:
    overlay(source, "model-overlay.safetensors", said=edit_index(source)["weight_map"][EMBEDDING])
    imported(repo, source, sign)
    old, tuned = build_model(seed=3), build_model(seed=3)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter += 0.5
    old.save_pretrained(tmp_path / "old")
    tuned.save_pretrained(tmp_path / "tuned")
    import_base(repo, str(tmp_path / "old"), draft=Draft("old", signature=sign()))
    commit(repo, str(tmp_path / "tuned"), base="old", draft=Draft("tuned", signature=sign()))
    transfer(repo, "tuned", "m", draft=Draft("moved", signature=sign()))
    checkout_files(repo, "moved", tmp_path / "moved")
    base = AutoModelForCausalLM.from_pretrained(source).state_dict()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "moved").state_dict()
    before, after = old.state_dict(), tuned.state_dict()
    for name, tensor in found.items():
        expected = base[name].double() + after[name].double() - before[name].double()
        assert torch.equal(tensor, expected.float()), name


def refused(repo: Repository, source: Path, sign: Sign, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words) as caught:
        import_base(repo, str(source), draft=Draft("x", signature=sign()))
    assert caught.value.kind is ErrorKind.BAD_CHECKPOINT
    assert not repo.refs.all()
    kept = import_base(repo, str(source), intake=Intake(incomplete=True), draft=Draft("x", signature=sign()))
    assert list(kept.findings.incomplete) == repo.commit(kept.recorded.commit).source["incomplete"] != []
    checkout_files(repo, "x", source.parent / "out")
    for path in (p for p in source.rglob("*") if p.is_file()):
        assert (source.parent / "out" / path.relative_to(source)).read_bytes() == path.read_bytes()


def test_a_tensor_that_its_shard_lacks(repo: Repository, source: Path, sign: Sign) -> None:
    last = shards(source)[-1]
    tensors = load_file(last)
    gone = sorted(tensors)[0]
    tensors.pop(gone)
    save_file(tensors, last, {"format": "pt"})
    refused(repo, source, sign, f"{INDEX} names tensor {gone}")


def test_a_shard_that_is_gone(repo: Repository, source: Path, sign: Sign) -> None:
    gone = shards(source)[-1]
    gone.unlink()
    refused(repo, source, sign, f"{INDEX} names {gone.name}, which is not there")


def test_a_shard_and_its_index_that_are_gone(repo: Repository, source: Path, sign: Sign) -> None:
    gone = shards(source)[0]
    gone.unlink()
    (source / INDEX).unlink()
    refused(repo, source, sign, f"{gone.name} is missing")


def test_a_component_of_a_pipeline_that_is_incomplete(
    repo: Repository, source: Path, tmp_path: Path, sign: Sign
) -> None:
    pipeline = tmp_path / "pipe"
    (pipeline / "vae").mkdir(parents=True)
    save_file({"w": torch.ones(2)}, pipeline / "vae" / "diffusion_pytorch_model.safetensors")
    (pipeline / "model_index.json").write_text("{}")
    shards(source)[0].unlink()
    shutil.move(source, pipeline / "text_encoder")
    refused(repo, pipeline, sign, f"text_encoder/: {INDEX} names")


def test_a_shard_that_is_left_out(repo: Repository, source: Path, sign: Sign) -> None:
    gone = shards(source)[0].name
    with pytest.raises(InvalidInputError, match=f"{gone} is left out by a pattern"):
        import_base(repo, str(source), intake=Intake(exclude=(gone,)), draft=Draft("x", signature=sign()))


def test_a_run_that_only_has_its_saves(repo: Repository, source: Path, tmp_path: Path, sign: Sign) -> None:
    (tmp_path / "run").mkdir()
    shutil.copytree(source, tmp_path / "run" / "checkpoint-10")
    with pytest.raises(InvalidInputError, match="there are some in checkpoint-10/") as caught:
        import_base(repo, str(tmp_path / "run"), draft=Draft("x", signature=sign()))
    assert caught.value.facts == {"path": str(tmp_path / "run" / "checkpoint-10")}
    shutil.copytree(source, tmp_path / "run" / "checkpoint-9")
    for base in (None, imported(repo, source, sign).recorded.name):
        with pytest.raises(InvalidInputError, match="some in checkpoint-9/, checkpoint-10/, which") as caught:
            commit(repo, str(tmp_path / "run"), base=base, draft=Draft("x", signature=sign()))
        assert caught.value.facts == {"path": str(tmp_path / "run" / "checkpoint-10")}
    imported(repo, tmp_path / "run" / "checkpoint-10", sign)


# Models in other formats


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "others"
    (folder / "onnx").mkdir(parents=True)
    (folder / "m-Q4_K_M.gguf").write_bytes(bytes(range(256)) * 20)
    (folder / "onnx" / "model.onnx").write_bytes(b"onnx")
    (folder / "README.md").write_text("quantised")
    yield folder


def test_other_formats_are_kept_as_files(
    repo: Repository, source: Path, others: Path, tmp_path: Path, sign: Sign
) -> None:
    done = import_base(repo, str(others), draft=Draft("gguf", signature=sign()))
    assert done.findings.whole_files
    (others / "README.md").write_text("changed")
    assert commit(repo, str(others), base="gguf", draft=Draft("next", signature=sign())).findings.whole_files
    checkout_files(repo, "next", tmp_path / "out")
    for path in (p for p in others.rglob("*") if p.is_file()):
        assert (tmp_path / "out" / path.relative_to(others)).read_bytes() == path.read_bytes()
    import_base(repo, str(source), draft=Draft("m", signature=sign()))
    for compute in (
        lambda: transfer(repo, "next", "m", draft=Draft("a", signature=sign())),
        lambda: merge(repo, ["m", "next"], draft=Draft("b", signature=sign())),
        lambda: checkout_files(repo, "m + 0.5 * (next - m)", tmp_path / "c"),
        lambda: checkout_files(repo, "next", tmp_path / "d", dtype="bfloat16"),
    ):
        with pytest.raises(InvalidInputError, match="next holds no tensors"):
            compute()


@pytest.mark.parametrize(
    "files", [{}, {"config.json": "{}"}, {"a.py": ""}, {"tokenizer.json": "", "config.json": ""}]
)
def test_a_folder_without_a_model(
    repo: Repository, tmp_path: Path, sign: Sign, files: dict[str, str]
) -> None:
    (tmp_path / "m").mkdir()
    for name, content in files.items():
        (tmp_path / "m" / name).write_text(content)
    with pytest.raises(InvalidInputError, match="holds no safetensors weights"):
        import_base(repo, str(tmp_path / "m"), draft=Draft("m", signature=sign()))


def test_the_size_is_what_the_disk_lost(repo: Repository, source: Path, sign: Sign) -> None:
    def used() -> int:
        folders = (repo.path / "packs", repo.path / "objects")
        return sum(p.stat().st_size for f in folders if f.is_dir() for p in f.rglob("*") if p.is_file())

    before = used()
    done = import_base(repo, str(source), draft=Draft("m", signature=sign()))
    assert done.recorded.stored_bytes == used() - before > 0
    before = used()
    tuned = source.parent / "tuned"
    shutil.copytree(source, tuned)
    (tuned / "README.md").write_text("tuned")
    next_one = commit(repo, str(tuned), base="m", draft=Draft("t", signature=sign()))
    assert next_one.recorded.stored_bytes == used() - before > 0
    again = commit(repo, str(tuned), base="m", draft=Draft("t", signature=sign()))
    assert (again.recorded.unchanged, again.recorded.stored_bytes) == (True, 0)
    assert import_base(repo, str(tuned), draft=Draft("u", signature=sign())).recorded.stored_bytes > 0
