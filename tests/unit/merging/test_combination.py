"""Sums of checkpoints: names that match, configurations that are none, and how long it takes."""

from __future__ import annotations

from tiny_checkpoints import weights

from deltavcs.merging.combination import combine
from deltavcs.merging.counterparts import MergeInput
from deltavcs.merging.expression import transfer_program
from deltavcs.objects.model import Manifest
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, raw_tensor, write_checkpoint


def test_a_prefix_is_found_among_many_parts_of_names(repo, tmp_path, sign):
    # 24 blocks: GPT-2 medium, 'h.0.…' on the Hub and 'transformer.h.0.…' once it was saved again.
    plain = {f"h.{i}.attn.weight": raw_tensor("BF16", (4, 4), seed=i) for i in range(40)}
    wrapped = {f"transformer.{k}": t for k, t in plain.items()}
    write_checkpoint(tmp_path / "plain", plain)
    write_checkpoint(tmp_path / "wrapped", wrapped)
    write_checkpoint(tmp_path / "chat", fine_tuned(wrapped, seed=3))
    import_base(repo, str(tmp_path / "plain"), draft=Draft(signature=sign()))
    import_base(repo, str(tmp_path / "wrapped"), draft=Draft(signature=sign()))
    commit(repo, str(tmp_path / "chat"), base="wrapped", draft=Draft(signature=sign()))
    (done,) = transfer(repo, "wrapped", "plain", draft=Draft(signature=sign()))
    assert len(done.compatibility.renamed) == 40


def test_a_transfer_takes_time_in_proportion_to_the_number_of_tensors(repo, tmp_path, sign, monkeypatch):
    # The names were gathered again for every tensor: minutes for the 20,000 of a mixture of experts.
    for name, seed in (("v2", 50), ("v1", 0)):
        write_checkpoint(tmp_path / name, weights(seed))
        import_base(repo, str(tmp_path / name), draft=Draft(signature=sign()))
    write_checkpoint(tmp_path / "chat", fine_tuned(weights(), seed=1))
    commit(repo, str(tmp_path / "chat"), base="v1", draft=Draft(signature=sign()))
    calls = []
    primary = Manifest.primary.fget
    monkeypatch.setattr(Manifest, "primary", property(lambda self: calls.append(self) or primary(self)))
    manifests = [repo.manifest(repo.resolve(r)) for r in ("v2", "chat", "v1")]
    big = [Manifest(m.files, {**m.tensors, **_copies(m, 500)}) for m in manifests]
    operands = [MergeInput(r, m) for r, m in zip(("v2", "chat", "v1"), big, strict=True)]
    combine(repo.objects, transfer_program(1.0), operands, is_transfer=True)
    assert len(calls) < 50


def _copies(manifest, count: int) -> dict:
    entry = manifest.tensors["model.layers.0.weight"]
    return {f"model.experts.{i}.weight": entry for i in range(count)}
