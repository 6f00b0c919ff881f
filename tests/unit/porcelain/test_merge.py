"""The merge verb: what is stored, what it says, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_merges import ArraySource, merge_bytes
from safetensors.numpy import load_file, save_file

from deltavcs.advice import Advice
from deltavcs.errors import DeltaVCSError, ErrorKind
from deltavcs.merging.settings import MergeMethod
from deltavcs.objects.model import Kind, Role
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.merge import merge
from deltavcs.repo import Repository, init_repository
from deltavcs.signature import Signature
from deltavcs.steps.recording import Draft
from deltavcs.storage import LocalStorage
from deltavcs.testing.invariants import check_repository

SHAPES = {"model.embed.weight": (50, 16), "model.l0.weight": (16, 24), "norm.weight": (16,)}


def write(folder: Path, tensors: dict[str, np.ndarray], **files: Any) -> str:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", "vocab_size": 50}))
    for name, value in files.items():
        (folder / name).write_text(value)
    return str(folder)


def weights(seed: int, base: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    if base is None:
        return {k: rng.normal(0, 0.1, s).astype(np.float32) for k, s in SHAPES.items()}
    return {k: (v + rng.normal(0, 0.01, v.shape)).astype(np.float32) for k, v in base.items()}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A base, three fine-tunes, and their arrays; the last shares its norm with the base."""
    folder = tmp_path_factory.mktemp("history")
    made = init_repository(folder / "repo", sync=False)
    base = weights(0)
    arrays = {"base": base}
    import_base(made, write(folder / "base", base), draft=Draft("base", signature=Signature("tester", 1)))
    for i, name in enumerate("abc", start=1):
        arrays[name] = weights(i, base)
        if name == "c":
            arrays[name]["norm.weight"] = base["norm.weight"]
        source = write(folder / name, arrays[name], **{"tokenizer.json": name})
        said = Draft(name, task=f"task-{name}", signature=Signature("tester", 1 + i))
        commit(made, source, base="base", draft=said)
    return folder / "repo", arrays


@pytest.fixture
def repo(recorded, tmp_path):
    """A copy of the recorded history."""
    shutil.copytree(recorded[0], tmp_path / "repo")
    return Repository(LocalStorage(tmp_path / "repo" / ".dvx", sync=False))


@pytest.fixture
def history(recorded):
    """The arrays of the base and its fine-tunes."""
    return recorded[1]


def out(repo, name: str, folder: Path) -> dict[str, np.ndarray]:
    checkout_files(repo, name, folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("average", {}),
        ("weighted", {"weights": [1.0, 3.0]}),
        ("task_arithmetic", {"weights": [1.0, -0.5], "scale": 0.7}),
        ("ties", {"density": 0.3}),
        ("dare", {"density": 0.5, "seed": 5}),
        ("dare_ties", {"density": [0.5, 0.9], "seed": 5}),
        ("slerp", {"t": 0.25}),
    ],
)
def test_formula_methods_are_stored_as_formulas(repo, sign, history, tmp_path, method, options) -> None:
    done = merge(
        repo, ["a", "b"], draft=Draft("m", signature=sign()), method=MergeMethod(method, options=options)
    )
    assert done.recorded.stored_bytes < 5_000
    found = out(repo, "m", tmp_path / "out")
    needs_base = method in ("task_arithmetic", "ties", "dare", "dare_ties")
    for key in SHAPES:
        arrays = [history[n][key].astype(np.float64) for n in (["base"] if needs_base else []) + ["a", "b"]]
        wanted = merge_bytes(method, ArraySource(key, arrays, "F32"), options)
        assert found[key].tobytes() == wanted, key
    value = repo.commit(done.recorded.commit)
    assert value.kind is Kind.MERGE
    assert value.parents_as(Role.INPUT) == (repo.resolve("a"), repo.resolve("b"))
    assert value.parent_as(Role.BASE) == repo.resolve("base")
    assert value.metadata["merge.method"] == method
    assert all(repo.resolve(n) in value.recipe for n in "ab")
    assert repo.objects.get_stats(value.stats).base == repo.resolve("base")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "a"
    check_repository(tmp_path / "repo")


def test_the_same_command_gives_the_same_bytes(repo, sign, history, tmp_path) -> None:
    for name in ("x", "y"):
        merge(
            repo,
            ["a", "b"],
            draft=Draft(name, signature=sign()),
            method=MergeMethod("dare", options={"seed": 3}),
        )
    assert repo.commit(repo.resolve("x")).manifest == repo.commit(repo.resolve("y")).manifest
    merge(
        repo, ["a", "b"], draft=Draft("z", signature=sign()), method=MergeMethod("dare", options={"seed": 4})
    )
    assert repo.commit(repo.resolve("x")).manifest != repo.commit(repo.resolve("z")).manifest


def test_what_is_the_same_in_all_is_kept(repo, sign, history) -> None:
    done = merge(repo, ["c", "base"], draft=Draft("m", signature=sign()))
    assert done.untouched == ("norm.weight",)
    assert (
        repo.manifest(done.recorded.commit).tensors["norm.weight"]
        == (repo.manifest(repo.resolve("base")).tensors["norm.weight"])
    )


def test_a_recipe_that_is_a_sum_can_be_checked_out(repo, sign, history, tmp_path) -> None:
    done = merge(repo, ["a", "b"], draft=Draft("m", signature=sign()), method=MergeMethod("average"))
    assert done.recipe == f"({repo.resolve('a')} + {repo.resolve('b')}) / 2"
    wanted = out(repo, "m", tmp_path / "m")
    found = out(repo, done.recipe, tmp_path / "recipe")
    assert all(np.array_equal(wanted[k], found[k]) for k in SHAPES)


def test_merges_of_merges_and_of_many(repo, sign, history, tmp_path) -> None:
    merge(repo, ["a", "b"], draft=Draft("ab", signature=sign()))
    merge(repo, ["ab", "c"], draft=Draft("abc", signature=sign()), method=MergeMethod("ties"))
    assert repo.commit(repo.resolve("abc")).parent_as(Role.BASE) == repo.resolve("base")
    merge(repo, ["a", "b", "c", "ab", "abc"], draft=Draft("all", signature=sign()))
    out(repo, "all", tmp_path / "all")
    check_repository(tmp_path / "repo")


def test_dry_run_commits_nothing(repo, sign, history) -> None:
    before = repo.refs.all()
    done = merge(
        repo, ["a", "b"], dry_run=True, draft=Draft("m", signature=sign()), method=MergeMethod("ties")
    )
    assert done.recorded is None
    assert done.parameters["density"] == (0.2, 0.2)
    assert repo.refs.all() == before


def refused(call: Any) -> DeltaVCSError:
    with pytest.raises(DeltaVCSError) as caught:
        call()
    return caught.value


def test_other_shapes_are_refused_by_name(repo, sign, history, tmp_path) -> None:
    grown = dict(history["a"])
    grown["model.embed.weight"] = np.zeros((51, 16), np.float32)
    commit(repo, write(tmp_path / "grown", grown), base="base", draft=Draft("grown", signature=sign()))
    error = refused(lambda: merge(repo, ["a", "grown"], draft=Draft("m", signature=sign())))
    assert error.kind is ErrorKind.INCOMPATIBLE
    assert "model.embed.weight is [50, 16] in a, [51, 16] in grown" in str(error)
    lacking = {k: v for k, v in history["a"].items() if k != "norm.weight"}
    commit(repo, write(tmp_path / "lacking", lacking), base="base", draft=Draft("lacking", signature=sign()))
    error = refused(lambda: merge(repo, ["a", "lacking"], draft=Draft("m", signature=sign())))
    assert "norm.weight is not in lacking" in str(error)
    error = refused(lambda: merge(repo, ["lacking", "a"], draft=Draft("m", signature=sign())))
    assert "norm.weight is only in a" in str(error)
    assert "m" not in [r.rpartition("/")[2] for r in repo.refs.all("refs/heads")]


def test_methods_on_diff_vectors_need_a_common_base(repo, sign, history, tmp_path) -> None:
    import_base(repo, write(tmp_path / "other", weights(9)), draft=Draft("other", signature=sign()))
    error = refused(
        lambda: merge(repo, ["a", "other"], draft=Draft("m", signature=sign()), method=MergeMethod("ties"))
    )
    assert error.kind is ErrorKind.BASE_UNKNOWN
    assert error.advice is Advice.NAME_BASE_OR_AVERAGE
    merge(repo, ["a", "other"], draft=Draft("m", signature=sign()), method=MergeMethod("ties", base="base"))
    done = merge(repo, ["a", "other"], draft=Draft("n", signature=sign()))
    assert done.base is None
    assert repo.commit(done.recorded.commit).stats is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": MergeMethod("nonsense")},
        {"method": MergeMethod("weighted")},
        {"method": MergeMethod("average", {"density": 0.5})},
        {"method": MergeMethod("ties", {"density": [0.5]})},
        {"method": MergeMethod("ties", {"density": 2.0})},
        {"method": MergeMethod(exact=True)},
        {"method": MergeMethod(rank=4)},
        {"method": MergeMethod("fisher"), "tasks": ("x", "y", "z")},
    ],
)
def test_bad_arguments(repo, sign, history, arguments) -> None:
    error = refused(lambda: merge(repo, ["a", "b"], **arguments, draft=Draft("m", signature=sign())))
    assert error.kind is ErrorKind.BAD_ARGUMENT


def adapter(folder: Path, seed: int, rank: int, alpha: float = 8, whole: bool = False) -> str:
    rng = np.random.default_rng(seed)
    prefix = "base_model.model.model.l0"
    tensors = {
        f"{prefix}.lora_A.weight": rng.normal(size=(rank, 24)).astype(np.float32),
        f"{prefix}.lora_B.weight": rng.normal(size=(16, rank)).astype(np.float32),
    }
    if whole:
        tensors["base_model.model.norm.weight"] = rng.normal(size=16).astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["l0"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture
def adapters(repo, sign, history, tmp_path):
    sources = {
        "l1": adapter(tmp_path / "l1", 1, 4),
        "l2": adapter(tmp_path / "l2", 2, 4),
        "l3": adapter(tmp_path / "l3", 3, 2, alpha=6),
    }
    for name, source in sources.items():
        commit(repo, source, base="base", draft=Draft(name, signature=sign()))
    return {n: load_file(Path(s) / "adapter_model.safetensors") for n, s in sources.items()}


def test_adapters_are_averaged_factor_by_factor(repo, sign, adapters, tmp_path) -> None:
    done = merge(repo, ["l1", "l2"], draft=Draft("m", signature=sign()))
    assert done.is_adapter
    assert done.recorded.stored_bytes < 5_000
    value = repo.commit(done.recorded.commit)
    assert value.kind is Kind.ADAPTER
    assert value.parent_as(Role.BASE) == repo.resolve("base")
    checkout_files(repo, "m", tmp_path / "out")
    found = load_file(tmp_path / "out" / "adapter_model.safetensors")
    for key, a in adapters["l1"].items():
        wanted = ((a.astype(np.float64) + adapters["l2"][key]) / 2).astype(np.float32)
        assert np.array_equal(found[key], wanted)
    checkout_files(repo, "m", tmp_path / "folded", merge_adapter=True)


def product(tensors: dict[str, np.ndarray], scale: float) -> np.ndarray:
    a = next(v for k, v in tensors.items() if "lora_A" in k).astype(np.float64)
    b = next(v for k, v in tensors.items() if "lora_B" in k).astype(np.float64)
    return scale * b @ a


@pytest.mark.parametrize(
    ("method", "options", "factors"),
    [
        ("average", {}, (0.5, 0.5)),
        ("weighted", {"weights": [1.0, 3.0]}, (0.25, 0.75)),
        ("task_arithmetic", {"weights": [1.0, -1.0], "scale": 0.5}, (0.5, -0.5)),
    ],
)
def test_exact_adds_the_products(repo, sign, adapters, tmp_path, method, options, factors) -> None:
    done = merge(
        repo,
        ["l1", "l3"],
        draft=Draft("m", signature=sign()),
        method=MergeMethod(method, options=options, exact=True),
    )
    checkout_files(repo, "m", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (6, 6)
    found = product(load_file(tmp_path / "out" / "adapter_model.safetensors"), 1.0)
    wanted = factors[0] * product(adapters["l1"], 2.0) + factors[1] * product(adapters["l3"], 3.0)
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert done.lost == {}
    check_repository(tmp_path / "repo")


def test_exact_with_a_rank_reports_what_is_lost(repo, sign, adapters, tmp_path) -> None:
    done = merge(
        repo, ["l1", "l3"], draft=Draft("m", signature=sign()), method=MergeMethod(exact=True, rank=3)
    )
    assert 0 < done.lost["model.l0"] < 1
    checkout_files(repo, "m", tmp_path / "out")
    found = product(load_file(tmp_path / "out" / "adapter_model.safetensors"), 1.0)
    wanted = product(adapters["l1"], 1.0) + product(adapters["l3"], 1.5)
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    assert error == pytest.approx(done.lost["model.l0"], rel=1e-4)


def test_adapters_that_do_not_fit(repo, sign, adapters, tmp_path) -> None:
    error = refused(lambda: merge(repo, ["l1", "l3"], draft=Draft("m", signature=sign())))
    assert error.kind is ErrorKind.INCOMPATIBLE
    assert "rank 2 instead of 4" in str(error)
    assert error.advice is Advice.MERGE_PRODUCTS
    error = refused(lambda: merge(repo, ["l1", "a"], draft=Draft("m", signature=sign())))
    assert error.kind is ErrorKind.INCOMPATIBLE
    error = refused(
        lambda: merge(repo, ["l1", "l2"], draft=Draft("m", signature=sign()), method=MergeMethod("fisher"))
    )
    assert error.kind is ErrorKind.INCOMPATIBLE
    commit(repo, adapter(tmp_path / "on-a", 4, 4), base="a", draft=Draft("on-a", signature=sign()))
    error = refused(lambda: merge(repo, ["l1", "on-a"], draft=Draft("m", signature=sign())))
    assert "different bases" in str(error)


def test_whole_tensors_of_adapters_are_averaged(repo, sign, history, tmp_path) -> None:
    for name, seed in (("w1", 1), ("w2", 2)):
        source = adapter(tmp_path / name, seed, 4, whole=True)
        commit(repo, source, base="base", draft=Draft(name, signature=sign()))
    merge(repo, ["w1", "w2"], draft=Draft("m", signature=sign()), method=MergeMethod(exact=True))
    checkout_files(repo, "m", tmp_path / "out")
    found = load_file(tmp_path / "out" / "adapter_model.safetensors")["base_model.model.norm.weight"]
    parts = [
        load_file(tmp_path / n / "adapter_model.safetensors")["base_model.model.norm.weight"]
        for n in ("w1", "w2")
    ]
    assert np.allclose(found, (parts[0] + parts[1]) / 2)
