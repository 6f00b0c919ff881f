from __future__ import annotations

import sys

import pytest
from hub_stand_in import HubStandIn, commit_of

from deltavcs.advice import Advice
from deltavcs.errors import ErrorKind, MissingDependencyError, NotFoundError, StorageError
from deltavcs.storage.hub_client import HubOptions
from deltavcs.storage.hub_datasets import fetch_files, list_dataset


def test_files_of_one_commit(hub: HubOptions) -> None:
    HubStandIn.repos["a/b"] = {"main": {"data/b.jsonl": b"2", "data/a.jsonl": b"1"}}
    listing = list_dataset("a/b", "main", hub)
    assert listing is not None
    assert (listing.commit, listing.files) == (commit_of("main"), ("data/b.jsonl", "data/a.jsonl"))
    found = fetch_files(listing, ["data/a.jsonl", "data/b.jsonl"], hub)
    assert [path.read_bytes() for path in found] == [b"1", b"2"]
    HubStandIn.down = True
    offline = HubOptions(endpoint=hub.endpoint, cache_dir=hub.cache_dir, offline=True)
    again = list_dataset("a/b", "main", offline)
    assert again is not None
    assert (again.commit, sorted(again.files)) == (listing.commit, sorted(listing.files))
    assert fetch_files(again, ["data/a.jsonl"], offline) == found[:1]


def test_a_dataset_that_moves_while_it_is_read(hub: HubOptions) -> None:
    HubStandIn.repos["a/b"] = {"main": {"x.jsonl": b"1"}}
    listing = list_dataset("a/b", "main", hub)
    assert listing is not None
    moved = type(listing)(listing.repo_id, listing.revision, commit_of("before"), listing.files)
    with pytest.raises(StorageError) as caught:
        fetch_files(moved, ["x.jsonl"], hub)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.SOURCE_CHANGED, True)


def test_what_is_not_there(hub: HubOptions) -> None:
    HubStandIn.repos["a/b"] = {"main": {"README.md": b"#"}}
    with pytest.raises(NotFoundError) as caught:
        list_dataset("a/none", "main", hub)
    assert caught.value.kind is ErrorKind.UNKNOWN_SOURCE
    assert list_dataset("a/b", "v9", hub) is None
    assert list_dataset("a/b", "main", HubOptions(cache_dir=hub.cache_dir, offline=True)) is None


def test_no_network_is_said() -> None:
    # Nothing listens on the discard port.
    with pytest.raises(StorageError) as caught:
        list_dataset("a/b", "main", HubOptions(endpoint="http://127.0.0.1:9"))
    assert caught.value.kind is ErrorKind.REMOTE
    assert caught.value.retryable
    assert caught.value.advice is Advice.ADD_ROWS_FILE


def test_without_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError) as caught:
        list_dataset("a/b", "main", HubOptions())
    assert caught.value.facts == {"package": "huggingface_hub"}
