"""Adapters that are refused, or told of, when they are committed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deltavcs.adapters.module_updates import module_updates
from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.merging.settings import MergeMethod
from deltavcs.porcelain.checkout import checkout, checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.merge import merge
from deltavcs.porcelain.show import show
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import RawTensor, safetensors_bytes, write_checkpoint

_Q = "base_model.model.model.layers.0.q"


def tensor(*shape: int) -> RawTensor:
    return RawTensor("F32", shape, np.full(shape, 0.5, np.float32).tobytes())


def adapter(folder: Path, tensors: dict[str, RawTensor], **config: Any) -> str:
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors))
    return str(folder)


@pytest.fixture
def based(repo, tmp_path, sign):
    write_checkpoint(
        tmp_path / "base", {"model.layers.0.q.weight": tensor(6, 4), "head.weight": tensor(6, 4)}
    )
    import_base(repo, str(tmp_path / "base"), draft=Draft("base", signature=sign()))
    return repo


def factors(a: tuple[int, ...] = (2, 4), b: tuple[int, ...] = (6, 2), name: str = _Q) -> dict[str, RawTensor]:
    return {f"{name}.lora_A.weight": tensor(*a), f"{name}.lora_B.weight": tensor(*b)}


@pytest.mark.parametrize("base", ["base", None])
@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({}, "holds no tensors"),
        (factors((0,), (0,)), r"q\.lora_A\.weight has the shape \[0\], no elements: .* ZeRO-3 or FSDP"),
        ({f"{_Q}.lora_A.weight": tensor(2, 4)}, r"layers\.0\.q: an adapter needs both A and B"),
        (factors((2, 5)), r"has the factors \[2, 5\] and \[6, 2\], which does not fit the weight \[6, 4\]"),
        (factors((3, 4), (6, 3)), "which does not fit the rank 2 of its configuration"),
        (
            factors(name="base_model.model.other.q"),
            r"has none of the modules .* \(other\.q\); its own weights are",
        ),
        (
            factors() | factors(name="base_model.model.other.q"),
            r"changes other\.q, which the base does not have",
        ),
        ({"base_model.model.head.weight": tensor(6, 5)}, r"head\.weight is \[6, 5\], which does not fit"),
    ],
)
def test_what_is_refused(based, tmp_path, sign, tensors, why, base):
    source = adapter(tmp_path / "lora", tensors)
    with pytest.raises(InvalidInputError, match=why):
        commit(based, source, base=base, draft=Draft(signature=sign()))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"init_lora_weights": "pissa"}, "initialised by pissa"),
        ({"alora_invocation_tokens": [1, 2]}, "trained with alora_invocation_tokens"),
        ({"use_dora": True}, "has no magnitude vector of DoRA"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "trained with layer_replication"),
    ],
)
def test_what_is_stored_and_cannot_be_folded(based, tmp_path, sign, config, why):
    source = adapter(tmp_path / "lora", factors(), **config)
    done = commit(based, source, draft=Draft(signature=sign()))
    assert done.adapter_notes[0].startswith("it is stored, and cannot be folded")
    assert why in done.adapter_notes[0]
    with pytest.raises(InvalidInputError, match=f"the adapter cannot be folded: .*{why}"):
        checkout(based, "lora", merge_adapter=True)


@pytest.mark.parametrize(
    ("kind", "part", "base"),
    [
        ("IA3", "ia3_l", None),
        ("LOHA", "hada_w1_a", None),
        ("OFT", "oft_R.weight", None),
        ("OF_TOMORROW", "x", "base"),
    ],
)
def test_other_types_are_stored_byte_for_byte(based, tmp_path, sign, kind, part, base):
    source = adapter(tmp_path / "lora", {f"{_Q}.{part}": tensor(3, 5)}, peft_type=kind)
    done = commit(based, source, base=base, draft=Draft(signature=sign()))
    assert (done.adapter_type, done.base.name) == (kind, "base")
    assert show(based, "lora").adapter_type == kind
    checkout_files(based, "lora", tmp_path / "out")
    for file in Path(source).iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(InvalidInputError, match=f"it is of the type {kind}, and only LoRA can be folded"):
        checkout(based, "lora", merge_adapter=True)


def test_another_type_of_another_base(based, tmp_path, sign):
    source = adapter(tmp_path / "lora", {"base_model.model.other.q.ia3_l": tensor(4, 1)}, peft_type="IA3")
    with pytest.raises(
        InvalidInputError, match=r"no module that the adapter \(IA3\) changes, such as other\.q"
    ):
        commit(based, source, base="base", draft=Draft(signature=sign()))


@pytest.mark.parametrize("setting", [{"layer_replication": [[0, 1], [0, 1]]}, {"use_bdlora": {"nblocks": 2}}])
def test_layers_and_sizes_that_a_setting_explains_are_stored(based, tmp_path, sign, setting):
    more = factors((2, 2), (6, 2), name="base_model.model.model.layers.1.q")
    done = commit(
        based, adapter(tmp_path / "lora", factors() | more, **setting), draft=Draft(signature=sign())
    )
    assert done.base.name == "base"
    assert f"trained with {next(iter(setting))}" in done.adapter_notes[0]


def test_a_type_that_adds_to_a_module_without_a_weight(based, tmp_path, sign):
    source = adapter(
        tmp_path / "lora",
        {"base_model.model.model.layers.0.adaption_prompt": tensor(1, 2)},
        peft_type="ADAPTION_PROMPT",
    )
    assert commit(based, source, base="base", draft=Draft(signature=sign())).adapter_type == "ADAPTION_PROMPT"


def test_two_adapters_in_one_file(based, tmp_path, sign):
    both = {k.replace(".weight", f".{n}.weight"): t for k, t in factors().items() for n in ("de", "fr")}
    done = commit(based, adapter(tmp_path / "lora", both), draft=Draft(signature=sign()))
    why = r"holds both .*\.lora_A\.de\.weight and .*\.lora_A\.fr\.weight: two adapters in one file"
    assert re.search(why, done.adapter_notes[0])
    with pytest.raises(InvalidInputError, match=why):
        checkout(based, "lora", merge_adapter=True)
    with pytest.raises(InvalidInputError, match=why):
        merge(based, ["lora", "lora"], MergeMethod("average", exact=True), draft=Draft("m", signature=sign()))
    assert module_updates(based.objects, based.manifest(based.resolve("lora"))) is None


def test_the_same_factors_with_another_scale_are_no_copy(based, tmp_path, sign):
    for name, alpha in (("one", 4), ("louder", 64), ("again", 4)):
        source = adapter(tmp_path / name, factors(), lora_alpha=alpha)
        done = commit(based, source, base="base", draft=Draft(name, signature=sign()))
        assert done.copy_of == ("one" if name == "again" else None)


def test_a_prompt_names_no_module_of_its_base(based, tmp_path, sign):
    source = adapter(tmp_path / "p", {"prompt_embeddings": tensor(4, 4)}, peft_type="PROMPT_TUNING")
    with pytest.raises(InvalidInputError, match="PROMPT_TUNING does not name modules of its base") as caught:
        commit(based, source, draft=Draft(signature=sign()))
    assert caught.value.kind is ErrorKind.BASE_UNKNOWN
    assert commit(based, source, base="base", draft=Draft(signature=sign())).adapter_type == "PROMPT_TUNING"


def test_several_adapters_in_one_folder(based, tmp_path, sign):
    for name in ("de", "fr"):
        adapter(tmp_path / "all" / name, factors())
    with pytest.raises(InvalidInputError, match=r"no weights of its own, but adapters in de, fr") as caught:
        commit(based, str(tmp_path / "all"), draft=Draft(signature=sign()))
    assert caught.value.advice is Advice.COMMIT_FOLDER
    assert caught.value.facts == {"folder": str(tmp_path / "all/de")}
    assert commit(based, str(tmp_path / "all/de"), draft=Draft(signature=sign())).recorded.kind == "adapter"


def test_numbers_that_are_none_are_told(based, tmp_path, sign):
    broken = RawTensor("F32", (2, 4), np.full((2, 4), np.nan, np.float32).tobytes())
    source = adapter(tmp_path / "lora", {**factors(), f"{_Q}.lora_A.weight": broken})
    done = commit(based, source, draft=Draft(signature=sign()))
    assert done.adapter_notes == (f"1 of its tensors hold NaN or Inf, such as {_Q}.lora_A.weight",)


@pytest.mark.parametrize(
    ("tensors", "asked"),
    [
        (factors(), False),
        (factors((2, 6), (4, 2)), False),  # Conv1D: the shape tells
        (factors() | {"base_model.model.head.weight": tensor(6, 4)}, True),
        (factors(name="base_model.model.layers.0.q"), True),
    ],
    ids=["plain", "transposed", "a head", "other names"],
)
def test_a_model_is_asked_for_only_where_names_do_not_tell(repo, tmp_path, sign, monkeypatch, tensors, asked):
    base = tmp_path / "base"
    write_checkpoint(base, {"model.layers.0.q.weight": tensor(6, 4), "head.weight": tensor(6, 4)})
    (base / "config.json").write_text('{"model_type": "llama"}')
    import_base(repo, str(base), draft=Draft("base", signature=sign()))
    seen: list[bytes] = []
    monkeypatch.setattr(
        "deltavcs.adapters.base_weights.skeleton_of", lambda config: seen.append(config) and None
    )
    commit(repo, adapter(tmp_path / "lora", tensors), base="base", draft=Draft(signature=sign()))
    assert bool(seen) is asked
