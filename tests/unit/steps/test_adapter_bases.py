"""The base of an adapter: what its configuration names, if that is known here."""

from __future__ import annotations

import json

import pytest
from lora_adapters import write_adapter
from tiny_checkpoints import weights

from deltavcs.checkpoint.ingest import ingest
from deltavcs.checkpoint.marker import MARKER, Marker, encode_marker
from deltavcs.checkpoint.source import open_checkpoint
from deltavcs.errors import ErrorKind, InvalidInputError
from deltavcs.objects.model import Kind
from deltavcs.porcelain.commit import commit
from deltavcs.porcelain.import_ import import_base
from deltavcs.steps.adapter_bases import base_of_adapter, commits_called
from deltavcs.steps.recording import Draft, MadeAs, recording
from deltavcs.testing.checkpoints import write_checkpoint


def named(folder, place, **more):
    """An adapter that says what it was trained on."""
    write_adapter(folder, **more)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": place}))
    return folder


def found(repo, folder):
    with open_checkpoint(folder) as checkpoint:
        return base_of_adapter(repo, checkpoint)


@pytest.mark.parametrize("name", ["v1", "v2", "chat"])
def test_a_branch_or_a_source_is_known(models, name):
    repo, folder = models
    source = repo.commit(repo.resolve(name)).source["path"]
    for i, place in enumerate((name, f"someone/{name}", source)):
        base = found(repo, named(folder / f"lora{i}", place))
        assert (base.name, base.how, base.named) == (name, "config", None)


def test_a_checkout_is_known_by_its_marker(models):
    repo, folder = models
    (folder / "out").mkdir()
    (folder / "out" / MARKER).write_bytes(encode_marker(Marker(repo.resolve("v2"), "v2")))
    assert found(repo, named(folder / "lora", str(folder / "out"))).name == "v2"


def from_the_hub(repo, source, name, sign):
    """A base whose commit says that it was downloaded."""
    with open_checkpoint(source) as checkpoint, recording(repo, name) as record:
        stored = ingest(record.transaction, checkpoint, base=None, previous=None, resources=repo.resources)
        made_as = MadeAs(Kind.BASE, source={"hub": "meta/Nine", "revision": "abc"})
        record.commit(stored, Draft(name, signature=sign()), made_as)


def test_a_model_of_the_hub_is_known_by_where_it_came_from(models, sign):
    repo, folder = models
    write_checkpoint(folder / "nine", weights(90))
    from_the_hub(repo, folder / "nine", "base9", sign)
    base = found(repo, named(folder / "lora", "meta/Nine"))
    assert (base.name, base.how) == ("base9", "config")


def test_a_base_of_another_model_of_the_hub_is_not_guessed(repo, models, sign, tmp_path):
    _, folder = models
    from_the_hub(repo, folder / "v1", "base9", sign)
    with pytest.raises(InvalidInputError, match=r"names meta/Ten\): it fits base9"):
        found(repo, named(tmp_path / "lora", "meta/Ten"))


def test_the_only_one_that_fits_is_taken_and_what_was_named_is_told(repo, models, sign, tmp_path):
    _, folder = models
    import_base(repo, str(folder / "v1"), draft=Draft("only", signature=sign()))
    base = found(repo, named(tmp_path / "lora", "/home/someone/llama"))
    assert (base.name, base.how, base.named) == ("only", "inferred", "/home/someone/llama")


@pytest.mark.parametrize("place", ["somewhere/else", "", "a\0b", 7, None])
def test_two_that_fit_are_a_question(models, place):
    repo, folder = models
    with pytest.raises(InvalidInputError, match=r"it fits v[12], v[12]") as caught:
        found(repo, named(folder / "lora", place))
    assert caught.value.kind is ErrorKind.BASE_UNKNOWN
    assert (place == "somewhere/else") == ("adapter_config.json names somewhere/else" in str(caught.value))


def test_one_that_is_named_is_the_base_though_another_one_fits(models, sign):
    """Whether it does is found out when it is committed, and told then."""
    repo, folder = models
    write_checkpoint(folder / "net", {"net.w": weights()["model.layers.0.weight"]})
    import_base(repo, str(folder / "net"), draft=Draft("net", signature=sign()))
    base = found(repo, named(folder / "lora", "net"))
    assert (base.name, base.how) == ("net", "config")
    with pytest.raises(InvalidInputError, match="the base has none of the modules that the adapter changes"):
        commit(repo, str(folder / "lora"), draft=Draft("lora", signature=sign()))


def test_a_directory_that_was_never_imported_is_known_by_its_weights(models):
    repo, folder = models
    write_checkpoint(folder / "elsewhere", weights(50))
    base = found(repo, named(folder / "lora", str(folder / "elsewhere")))
    assert (base.name, base.how) == ("v2", "config")
    write_checkpoint(folder / "unknown", weights(77))
    with pytest.raises(InvalidInputError, match=r"names .*unknown\): it fits v[12], v[12]"):
        found(repo, named(folder / "lora2", str(folder / "unknown")))


def test_an_adapter_is_no_base_of_an_adapter(models, sign):
    repo, folder = models
    commit(repo, str(write_adapter(folder / "lora")), base="v1", draft=Draft("lora", signature=sign()))
    assert commits_called(repo, "lora") == []
