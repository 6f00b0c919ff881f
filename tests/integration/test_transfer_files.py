"""What transformers loads from a transfer: the fine-tune's tokenizer, and what ends its texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_llama import build_model, build_tokenizer

from deltavcs.porcelain.checkout import checkout_files
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.porcelain.merge import merge
from deltavcs.porcelain.transfer import transfer
from deltavcs.repo import Repository, init_repository
from deltavcs.steps.recording import Draft

ENDS = [2, 9]


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Repository:
    """Two bases with a tokenizer; a fine-tune with another and one without, both with other ends of text."""
    from transformers import BertTokenizer

    root = tmp_path_factory.mktemp("files")
    found = init_repository(root, sync=False)
    (root / "words.txt").write_text("\n".join(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "what", "is"]))
    for name, seed in (("v1", 0), ("v2", 1), ("with", 2), ("without", 3)):
        model = build_model(seed=seed)
        if name.startswith("with"):
            model.config.eos_token_id = ENDS
        model.save_pretrained(root / name)
        if name.startswith("with"):
            (root / name / "generation_config.json").unlink()
        else:
            BertTokenizer(str(root / "words.txt")).save_pretrained(root / name)
            (root / name / "spm.model").write_bytes(b"of the base")
    build_tokenizer(chat=True).save_pretrained(root / "with")
    for name in ("v1", "v2"):
        import_base(found, str(root / name))
    for name in ("with", "without"):
        commit(found, str(root / name), base="v1")
    return found


def out(repo: Repository, name: str, tmp_path: Path) -> Path:
    transfer(repo, name, "v2", draft=Draft(f"out-{name}"))
    checkout_files(repo, f"out-{name}", tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(("name", "of"), [("with", "with"), ("without", "v2")])
def test_the_tokenizer_is_one_models(repo, tmp_path, name, of) -> None:
    from transformers import AutoTokenizer

    folder = out(repo, name, tmp_path)
    ours, theirs = (AutoTokenizer.from_pretrained(x) for x in (folder, repo.path.parent / of))
    assert type(ours) is type(theirs)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.chat_template == theirs.chat_template
    assert (folder / "spm.model").exists() is (of == "v2")


@pytest.mark.parametrize("name", ["with", "without"])
def test_texts_end_as_the_finetunes(repo, tmp_path, name) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(out(repo, name, tmp_path))
    theirs = AutoModelForCausalLM.from_pretrained(repo.path.parent / name)
    assert model.generation_config.eos_token_id == theirs.generation_config.eos_token_id == ENDS
    assert model.config.eos_token_id == ENDS


def test_ids_of_other_tokens_are_told(repo) -> None:
    """Rows of embeddings meet by their numbers, whatever they are the embeddings of."""
    (done,) = transfer(repo, "with", "v2", draft=Draft("told"), dry_run=True)
    (text,) = done.compatibility.other_tokens
    assert text.startswith("v2 and with (0 is '[UNK]' and ")
    (done,) = transfer(repo, "without", "v2", draft=Draft("told"), dry_run=True)
    assert done.compatibility.other_tokens == ()
    merged = merge(repo, ["with", "v1", "v2"], draft=Draft("told"), dry_run=True)
    assert [text.partition(" (")[0] for text in merged.other_tokens] == ["with and v1", "with and v2"]
