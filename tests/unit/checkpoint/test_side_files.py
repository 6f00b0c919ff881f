"""Which files beside the weights belong together, against transformers' own tables."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltavcs.checkpoint.side_files import SideRole, choose_side_files, holds_tokenizer, side_role

TOKENIZER = (SideRole.VOCABULARY, SideRole.SETTINGS)


def tables_of_transformers() -> Iterator[str]:
    """Every file name in `VOCAB_FILES_NAMES` or `*_FILE` of every tokenizer that transformers has."""
    import transformers

    root = Path(transformers.__file__).parent
    for path in [*root.glob("tokenization_*.py"), *root.glob("models/*/tokenization_*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Assign):
                continue
            names = {getattr(t, "id", getattr(t, "attr", "")) for t in node.targets}
            if names & {"VOCAB_FILES_NAMES", "vocab_files_names"} and isinstance(node.value, ast.Dict):
                yield from (v.value for v in node.value.values if isinstance(v, ast.Constant))
            elif any(n.endswith("_FILE") for n in names) and isinstance(node.value, ast.Constant):
                yield node.value.value


def test_every_file_of_a_tokenizer_of_transformers_is_one() -> None:
    names = set(tables_of_transformers())
    assert len(names) > 20
    assert {n for n in names if side_role(n) not in TOKENIZER} == set()


def test_the_files_that_transformers_names_itself() -> None:
    from transformers import utils

    assert side_role(utils.CHAT_TEMPLATE_FILE) is SideRole.SETTINGS
    assert side_role(utils.LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE) is SideRole.SETTINGS
    assert side_role(f"{utils.CHAT_TEMPLATE_DIR}/rag.jinja") is SideRole.SETTINGS
    assert side_role(utils.GENERATION_CONFIG_NAME) is SideRole.GENERATION
    for name in ("FEATURE_EXTRACTOR_NAME", "IMAGE_PROCESSOR_NAME", "PROCESSOR_NAME", "VIDEO_PROCESSOR_NAME",
                 "AUDIO_TOKENIZER_NAME"):  # fmt: skip
        assert side_role(getattr(utils, name)) is SideRole.PROCESSOR
    for name in ("CONFIG_NAME", "SAFE_WEIGHTS_NAME", "SAFE_WEIGHTS_INDEX_NAME", "WEIGHTS_NAME"):
        assert side_role(getattr(utils, name)) is None


OUTSIDE = """spm.model tekken.json qwen.tiktoken tokenizer.model.v3 tokenizer.model.v7m1 vocab.bpe
encoder.json sentencepiece.model tokenization_odd.py tokenizer.py chat_template_tools.jinja
vocab.de.txt merges-2.txt
tokenizer-v2.json original/tokenizer.model question_encoder_tokenizer/vocab.txt
rwkv_vocab_v20230424.txt hf_rwkv_tokenizer.py fast_tokenization_odd.py vocabulary.json shared_vocabulary.txt
vocab bpecodes unigram.json vocab.jsonl vocab.pkl tokenizer.json.gz tokenizer.bin tekken.v7.json tokens.json
special_tokens.json lang2id.json SYSTEM_PROMPT.txt chat_templates/tool_use.jinja"""
PROCESSORS = """processing_odd.py odd_image_processing.py image_processor_odd.py processor_odd.py
feature_extractor_odd.py vision_preprocessor_config.json audio_processor_config.json image_processor.json
feature_extractor.json"""
NEITHER = """config.json modeling_odd.py configuration_odd.py mergekit_config.yml README.md params.json
encoder_config.json training_tokens.json scheduler/scheduler_config.json all_results.json special.txt"""


@pytest.mark.parametrize("path", PROCESSORS.split())
def test_processors_of_other_tools(path: str) -> None:
    assert side_role(path) is SideRole.PROCESSOR


@pytest.mark.parametrize("path", OUTSIDE.split())
def test_what_other_tools_call_their_tokenizers(path) -> None:
    assert side_role(path) in TOKENIZER


@pytest.mark.parametrize("path", NEITHER.split())
def test_what_is_no_tokenizer(path) -> None:
    assert side_role(path) is None


def test_a_whole_tokenizer_replaces_the_other_in_whole() -> None:
    found = choose_side_files(
        ["vocab.json", "merges.txt", "tokenizer_config.json", "config.json", "generation_config.json"],
        ["spm.model", "tokenizer_config.json", "config.json"],
    )
    assert found.taken == ("spm.model", "tokenizer_config.json")
    assert found.dropped == ("generation_config.json", "merges.txt", "vocab.json")
    assert found.tokenizer == {"": "finetune"}


@pytest.mark.parametrize("files", [["tokenizer_config.json"], ["chat_template.jinja"], ["normalizer.json"],
                                   ["added_tokens.json", "special_tokens_map.json"]])  # fmt: skip
def test_a_part_of_a_tokenizer_is_not_put_beside_another(files) -> None:
    found = choose_side_files(["tokenizer.json", "tokenizer_config.json"], files)
    assert (found.taken, found.dropped) == ((), ())
    assert found.left_out == tuple(sorted(files))
    assert found.tokenizer == {"": "target"}


def test_a_tokenizer_of_bytes_has_no_vocabulary() -> None:
    found = choose_side_files(["tokenizer_config.json", "added_tokens.json"], ["tokenizer_config.json"])
    assert (found.taken, found.dropped) == (("tokenizer_config.json",), ("added_tokens.json",))


def test_folders_are_chosen_one_by_one() -> None:
    found = choose_side_files(
        ["tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer_2/spiece.model"], ["tokenizer/vocab.json"]
    )
    assert (found.taken, found.dropped) == (("tokenizer/vocab.json",), ("tokenizer/merges.txt",))
    assert found.tokenizer == {"tokenizer": "finetune", "tokenizer_2": "target"}


def test_a_processor_is_kept_where_the_finetune_has_none() -> None:
    lead = ["tokenizer.json", "preprocessor_config.json", "processor_config.json"]
    assert choose_side_files(lead, ["tokenizer.json"]).dropped == ()
    found = choose_side_files(lead, ["preprocessor_config.json"])
    assert (found.taken, found.dropped) == (("preprocessor_config.json",), ("processor_config.json",))
    assert found.tokenizer == {"": "target"}


def test_templates_in_their_folder_belong_to_the_folder_above() -> None:
    found = choose_side_files(["tokenizer.json", "additional_chat_templates/a.jinja"], ["tokenizer.json"])
    assert found.dropped == ("additional_chat_templates/a.jinja",)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [(["spm.model"], True), (["tokenizer_config.json"], True), (["chat_template.jinja"], False),
     (["generation_config.json"], False), (["tekken.json", "config.json"], True), ([], False)],
)  # fmt: skip
def test_what_holds_a_tokenizer(paths, expected) -> None:
    assert holds_tokenizer(paths) is expected
