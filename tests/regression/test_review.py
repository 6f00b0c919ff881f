"""What a review of the main job found: each test failed before its fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltavcs.errors import ConflictError, DeltaVCSError, ErrorKind, InvalidInputError
from deltavcs.maintenance.check import check
from deltavcs.maintenance.collect import collect, plan_gc
from deltavcs.merging.expression import parse_expression
from deltavcs.porcelain.branch import create_branch, create_tag, delete_branch, rename_branch
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import Repository, open_repository
from deltavcs.resources import Resources
from deltavcs.steps.naming import name_of
from deltavcs.testing.checkpoints import RawTensor, fine_tuned, raw_tensor, write_checkpoint

SHAPES = {"model.embed_tokens.weight": (12, 4), "model.layers.0.weight": (8, 8)}


def weights(seed: int = 0, rows: int = 12, prefix: str = "") -> dict[str, RawTensor]:
    shapes = {**SHAPES, "model.embed_tokens.weight": (rows, 4)}
    return {prefix + k: raw_tensor("BF16", s, seed=seed + i) for i, (k, s) in enumerate(shapes.items())}


@pytest.fixture
def models(repo, tmp_path, sign) -> tuple[Repository, Path]:
    """Bases v1 and v2, and a fine-tune of each: chat and other."""
    for seed, base, tuned in ((0, "v1", "chat"), (50, "v2", "other")):
        tensors = weights(seed)
        write_checkpoint(tmp_path / base, tensors)
        write_checkpoint(tmp_path / tuned, fine_tuned(tensors, seed=seed + 1))
        import_base(repo, str(tmp_path / base), signature=sign())
        commit(repo, str(tmp_path / tuned), base=base, signature=sign())
    return repo, tmp_path


def content(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_checkout_fills_a_directory_that_is_there_instead_of_replacing_it(models, monkeypatch):
    # The shell that stood in it was left in a deleted one; a mount point could not be replaced at all.
    repo, tmp = models
    out = tmp / "out"
    out.mkdir()
    inode = out.stat().st_ino
    monkeypatch.chdir(out)
    checkout_files(repo, "chat", Path())
    assert out.stat().st_ino == inode
    assert content(out) == content(tmp / "chat")
    assert {p.name for p in out.iterdir()} == {"model.safetensors", ".dvx-checkout.json"}


def test_checkout_into_a_link_to_an_empty_directory(models):
    repo, tmp = models
    (tmp / "disk").mkdir()
    (tmp / "out").symlink_to(tmp / "disk")
    checkout_files(repo, "chat", tmp / "out")
    assert (tmp / "out").is_symlink()
    assert content(tmp / "disk") == content(tmp / "chat")


def test_a_failed_checkout_leaves_an_empty_directory_empty(models):
    repo, tmp = models
    out = tmp / "out"
    out.mkdir()
    for pack in (repo.path / "packs").glob("*.pack"):
        data = bytearray(pack.read_bytes())
        data[-60] ^= 1
        pack.write_bytes(data)
    with pytest.raises(DeltaVCSError):
        checkout_files(open_repository(repo.path.parent), "chat", out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("text", ["a / 1e-310", "a + b / 5e-324"])
def test_a_divisor_whose_inverse_overflows_is_an_error_of_the_expression(text):
    with pytest.raises(InvalidInputError, match="too small") as found:
        parse_expression(text)
    assert found.value.kind is ErrorKind.BAD_EXPRESSION


def test_delta_must_be_a_fine_tune_of_the_base_that_from_names(models, sign):
    repo, _ = models
    with pytest.raises(InvalidInputError, match="other is a fine-tune of v2, not of v1"):
        transfer(repo, from_="v1", to="v2", deltas=["other"], signature=sign())


def test_a_new_parent_is_worth_a_commit(models, sign):
    repo, tmp = models
    first = commit(repo, str(tmp / "chat"), base="v1", parents=["v2:teacher"], signature=sign())
    again = commit(repo, str(tmp / "chat"), base="v1", parents=["v2:teacher"], signature=sign())
    assert not first.recorded.unchanged
    assert again.recorded.unchanged


@pytest.mark.parametrize("role", ["base", "previous"])
def test_a_parent_cannot_take_the_role_that_history_follows(models, sign, role):
    repo, tmp = models
    with pytest.raises(InvalidInputError, match=f"its {role} parent"):
        commit(repo, str(tmp / "chat"), base="v1", name="new", parents=[f"v2:{role}"], signature=sign())


def test_the_name_of_a_commit_leads_back_to_it_where_tag_and_branch_share_one(models, sign):
    repo, _ = models
    delete_branch(repo, "v1", signature=sign())
    v1 = repo.resolve("chat~1")
    create_tag(repo, "chat", v1, signature=sign())
    assert name_of(repo, v1) == "tags/chat"
    assert repo.resolve(name_of(repo, v1)) == v1


def test_fsck_finds_a_damaged_pack_index(models):
    repo, _ = models
    index = next((repo.path / "packs").glob("*.idx"))
    data = index.read_bytes()
    for at in (0, 40, len(data) - 1):
        index.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        opened = open_repository(repo.path.parent)
        problems, _ = check(opened.objects, opened.refs, full=False, resources=Resources())
        assert [p.kind for p in problems] == ["corrupt"]


@pytest.mark.parametrize("verb", ["rename", "create"])
def test_no_gc_comes_between_reading_a_commit_and_naming_it(models, sign, verb, monkeypatch):
    repo, _ = models
    chat = repo.resolve("chat")
    if verb == "create":
        delete_branch(repo, "chat", signature=sign())
    other = open_repository(repo.path.parent)
    move = type(repo.refs).move

    def with_gc_before(self, *args, **kwargs):
        if self is repo.refs:
            with pytest.raises(ConflictError):
                collect(other.objects, lambda: plan_gc(other.objects, other.refs))
        move(self, *args, **kwargs)

    monkeypatch.setattr(type(repo.refs), "move", with_gc_before)
    if verb == "create":
        create_branch(repo, "back", chat, signature=sign())
    else:
        rename_branch(repo, "chat", "talk", signature=sign())
    assert repo.resolve("back" if verb == "create" else "talk") == chat


@pytest.mark.parametrize("config", [b"[]", b'{"vocab_size": [12]}', b'"x"'])
def test_a_config_that_is_no_configuration_does_not_stop_a_padded_transfer(repo, tmp_path, sign, config):
    write_checkpoint(tmp_path / "v1", weights())
    write_checkpoint(tmp_path / "chat", weights(rows=14))
    write_checkpoint(tmp_path / "v2", weights(9), files={"config.json": config})
    import_base(repo, str(tmp_path / "v1"), signature=sign())
    import_base(repo, str(tmp_path / "v2"), signature=sign())
    commit(repo, str(tmp_path / "chat"), base="v1", signature=sign())
    transfer(repo, from_="v1", to="v2", signature=sign())
    checkout_files(repo, "v2+chat", tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_bytes() == config


def test_a_prefix_is_found_among_many_parts_of_names(repo, tmp_path, sign):
    # 24 blocks: GPT-2 medium, 'h.0.…' on the Hub and 'transformer.h.0.…' once it was saved again.
    plain = {f"h.{i}.attn.weight": raw_tensor("BF16", (4, 4), seed=i) for i in range(40)}
    wrapped = {f"transformer.{k}": t for k, t in plain.items()}
    write_checkpoint(tmp_path / "plain", plain)
    write_checkpoint(tmp_path / "wrapped", wrapped)
    write_checkpoint(tmp_path / "chat", fine_tuned(wrapped, seed=3))
    import_base(repo, str(tmp_path / "plain"), signature=sign())
    import_base(repo, str(tmp_path / "wrapped"), signature=sign())
    commit(repo, str(tmp_path / "chat"), base="wrapped", signature=sign())
    (done,) = transfer(repo, from_="wrapped", to="plain", signature=sign())
    assert len(done.compatibility.renamed) == 40


def test_a_transfer_takes_time_in_proportion_to_the_number_of_tensors(models, monkeypatch):
    # The names were gathered again for every tensor: minutes for the 20,000 of a mixture of experts.
    from deltavcs.merging.combination import combine
    from deltavcs.merging.expression import transfer_program
    from deltavcs.objects.model import Manifest

    repo, _ = models
    calls = []
    primary = Manifest.primary.fget
    monkeypatch.setattr(Manifest, "primary", property(lambda self: calls.append(self) or primary(self)))
    manifests = [repo.manifest(repo.resolve(r)) for r in ("v2", "chat", "v1")]
    big = [Manifest(m.files, {**m.tensors, **_copies(m, 500)}) for m in manifests]
    combine(repo.objects, transfer_program(1.0), [*big], is_transfer=True)
    assert len(calls) < 50


def _copies(manifest, count: int) -> dict:
    entry = manifest.tensors["model.layers.0.weight"]
    return {f"model.experts.{i}.weight": entry for i in range(count)}


def test_a_converted_checkout_loads_in_its_new_dtype(repo, tmp_path, sign):
    import json

    import numpy as np
    from safetensors.numpy import save_file

    from deltavcs.porcelain.checkout import checkout_files
    from deltavcs.porcelain.import_ import import_base

    source = tmp_path / "source"
    source.mkdir()
    save_file({"w": np.arange(12, dtype=np.float32).reshape(3, 4)}, source / "a.safetensors")
    config = {"dtype": "float32", "text_config": {"torch_dtype": "float32"}, "hidden_size": 4}
    (source / "config.json").write_text(json.dumps(config))
    index = {"metadata": {"total_size": 48}, "weight_map": {"w": "a.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    import_base(repo, str(source), name="v", signature=sign())
    checkout_files(repo, "v", tmp_path / "out", dtype="bfloat16")
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert found == {"dtype": "bfloat16", "text_config": {"torch_dtype": "bfloat16"}, "hidden_size": 4}
    total = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())["metadata"]
    assert total == {"total_size": 24}
