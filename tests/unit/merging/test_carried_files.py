"""The plain files of a transfer: whose they are, and which settings are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_checkpoints import weights

from deltavcs.advice import Advice
from deltavcs.errors import InvalidInputError
from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.transfer import transfer
from deltavcs.steps.carrying import Carrying
from deltavcs.steps.recording import Draft
from deltavcs.testing.checkpoints import fine_tuned, write_checkpoint


def configured(**settings: object) -> bytes:
    return json.dumps({"model_type": "odd", "eos_token_id": 2, "dtype": "bfloat16"} | settings).encode()


def transferred(repo, tmp_path: Path, sign, files: dict[str, dict[str, bytes]], **fitting) -> tuple:
    """What a transfer reports, and the plain files of its result; `files` of v1, chat and v2."""
    write_checkpoint(tmp_path / "v1", weights(), files=files.get("v1"))
    write_checkpoint(tmp_path / "v2", weights(9), files=files.get("v2"))
    write_checkpoint(tmp_path / "chat", fine_tuned(weights(), seed=1), files=files.get("chat"))
    for name in ("v1", "v2"):
        import_base(repo, str(tmp_path / name), draft=Draft(signature=sign()))
    commit(repo, str(tmp_path / "chat"), base="v1", draft=Draft(signature=sign()))
    (done,) = transfer(repo, "chat", "v2", draft=Draft("out", signature=sign()), **fitting)
    checkout_files(repo, "out", tmp_path / "out")
    out = tmp_path / "out"
    found = {str(x.relative_to(out)): x.read_bytes() for x in out.rglob("*") if x.is_file()}
    skipped = (".dvx-checkout.json", "model.safetensors")
    return done, {k: v for k, v in found.items() if k not in skipped}


def test_the_files_of_a_tokenizer_are_of_one_model(repo, tmp_path, sign) -> None:
    common = ("spm.model", "tokenizer_config.json", "tokenizer/vocab.json")
    files = {n: {f: n.encode() for f in common} for n in ("v1", "v2", "chat")}
    files["v2"] |= {"tokenizer.json": b"v2", "tokenizer/merges.txt": b"v2", "README.md": b"v2"}
    done, found = transferred(repo, tmp_path, sign, files)
    assert found == dict.fromkeys(common, b"chat") | {"README.md": b"v2"}
    assert done.carried.side.dropped == ("tokenizer.json", "tokenizer/merges.txt")


def test_without_a_tokenizer_of_its_own_a_finetune_gets_the_targets(repo, tmp_path, sign) -> None:
    files = {
        "v2": {"tokenizer.json": b"v2", "tokenizer_config.json": b"v2"},
        "chat": {"chat_template.jinja": b"x"},
    }
    done, found = transferred(repo, tmp_path, sign, files)
    assert found == files["v2"]
    assert done.carried.side.left_out == ("chat_template.jinja",)


def test_ids_that_a_finetune_set_only_in_its_config_survive(repo, tmp_path, sign) -> None:
    generation = json.dumps({"eos_token_id": 7, "top_p": 0.5}).encode()
    files = {
        "v1": {"config.json": configured()},
        "v2": {"config.json": configured(eos_token_id=7, rope=1), "generation_config.json": generation},
        "chat": {"config.json": configured(eos_token_id=[2, 9])},
    }
    done, found = transferred(repo, tmp_path, sign, files)
    assert json.loads(found["config.json"]) == json.loads(configured(eos_token_id=[2, 9], rope=1))
    assert json.loads(found["generation_config.json"]) == {"eos_token_id": [2, 9], "top_p": 0.5}
    told = {d.key: (d.target, d.finetune, d.source, d.written) for d in done.carried.differences}
    assert told == {"eos_token_id": (7, [2, 9], 2, "finetune"), "rope": (1, None, None, "target")}


def test_ids_are_those_of_the_tokenizer(repo, tmp_path, sign) -> None:
    files = {
        "v1": {"config.json": configured()},
        "v2": {
            "config.json": configured(eos_token_id=7),
            "tokenizer.json": b"v2",
            "generation_config.json": b"{}",
        },
        "chat": {"config.json": configured(), "tokenizer.json": b"chat"},
    }
    _, found = transferred(repo, tmp_path, sign, files)
    assert json.loads(found["config.json"])["eos_token_id"] == 2
    assert "generation_config.json" not in found


def test_the_config_of_the_finetune_on_request(repo, tmp_path, sign) -> None:
    files = {n: {"config.json": configured(rope=n)} for n in ("v1", "v2", "chat")}
    files["chat"]["config.json"] = configured(rope="chat", dtype="float32")
    done, found = transferred(repo, tmp_path, sign, files, carrying=Carrying(config="finetune"))
    assert json.loads(found["config.json"]) == json.loads(configured(rope="chat"))
    assert done.carried.config == "finetune"
    assert {d.key: d.written for d in done.carried.differences} == {"dtype": "target", "rope": "finetune"}


def test_a_config_of_other_shapes_is_refused(repo, tmp_path, sign) -> None:
    files = {n: {"config.json": configured(num_layers=1)} for n in ("v1", "v2")}
    files["chat"] = {"config.json": configured(num_layers=2)}
    with pytest.raises(InvalidInputError, match="num_layers is 2, and 1 in the target's") as caught:
        transferred(repo, tmp_path, sign, files, carrying=Carrying(config="finetune"))
    assert caught.value.advice is Advice.KEEP_TARGET_CONFIG


@pytest.mark.parametrize("text", [None, b"[]", b"{"])
def test_a_finetune_without_a_config_cannot_give_one(repo, tmp_path, sign, text) -> None:
    files = {n: {"config.json": configured()} for n in ("v1", "v2")}
    files["chat"] = {"config.json": text} if text is not None else {}
    with pytest.raises(InvalidInputError, match="no readable config"):
        transferred(repo, tmp_path, sign, files, carrying=Carrying(config="finetune"))


def test_a_word_for_a_config_that_is_none_is_refused(repo) -> None:
    with pytest.raises(InvalidInputError, match="config is 'base'"):
        transfer(repo, "chat", "v2", carrying=Carrying(config="base"))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"num_hidden_layers": 3}, r"model\.layers\.2\.input_layernorm\.weight is missing"),
        ({"num_hidden_layers": 1}, r"it has no model\.layers\.1\.input_layernorm\.weight"),
        ({"intermediate_size": 50}, r"down_proj\.weight is \[32, 48\], and \[32, 50\] by it"),
        ({"num_attention_heads": "many"}, "transformers refuses config.json"),
    ],
)
def test_a_config_is_held_against_the_tensors_as_transformers_does(
    repo, tmp_path, sign, settings, why
) -> None:
    from tiny_llama import build_model

    for name, seed in (("v1", 0), ("v2", 1), ("chat", 2)):
        build_model(seed=seed).save_pretrained(tmp_path / name)
    path = tmp_path / "chat" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_theta": 7.0}))
    for name in ("v1", "v2"):
        import_base(repo, str(tmp_path / name), draft=Draft(signature=sign()))
    commit(repo, str(tmp_path / "chat"), base="v1", draft=Draft(signature=sign()))
    transfer(repo, "chat", "v2", draft=Draft("fits", signature=sign()), carrying=Carrying(config="finetune"))
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    commit(repo, str(tmp_path / "chat"), base="v1", draft=Draft(signature=sign()))
    with pytest.raises(InvalidInputError, match=why):
        transfer(
            repo, "chat", "v2", draft=Draft("no", signature=sign()), carrying=Carrying(config="finetune")
        )
    transfer(repo, "chat", "v2", draft=Draft("yes", signature=sign()))
