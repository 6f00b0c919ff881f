"""Datasets from a stand-in for the Hub on the loopback interface; nothing leaves the machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from deltavcs.errors import ErrorKind, NotFoundError, StorageError
from deltavcs.tasks.dataset_table import builtin_task
from deltavcs.tasks.definition import HubSource, Task, read_task
from deltavcs.tasks.hub_rows import HubOptions, fetch_split, group_by_split, split_of
from deltavcs.tasks.template import Template

ROW = {"goal": "g", "sol1": "a", "sol2": "b", "label": 1}


class HubStandIn(BaseHTTPRequestHandler):
    """The three calls huggingface_hub makes: dataset info, file metadata (HEAD) and file (GET)."""

    # repo → revision → path → content
    repos: ClassVar[dict[str, dict[str, dict[str, bytes]]]] = {}
    down: ClassVar[bool] = False

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        if self.down:
            return self._send(503, b"", {})
        parts = self.path.replace("%2F", "/").split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            return self._info("/".join(parts[2:4]), "/".join(parts[5:]))
        repo, rest = "/".join(parts[1:3]), "/".join(parts[4:])
        for revision, files in self.repos.get(repo, {}).items():
            for name in (revision, commit_of(revision)):
                content = files.get(rest.removeprefix(name + "/"))
                if rest.startswith(name + "/") and content is not None:
                    headers = {
                        "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                        "X-Repo-Commit": commit_of(revision),
                    }
                    return self._send(200, content, headers)
        return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _info(self, repo: str, revision: str) -> None:
        revisions = self.repos.get(repo)
        if revisions is None:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if revision not in revisions:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": name} for name in revisions[revision]]
        info = {"id": repo, "sha": commit_of(revision), "siblings": siblings, "tags": []}
        return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def commit_of(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubOptions]:
    HubStandIn.repos, HubStandIn.down = {}, False
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubStandIn)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield HubOptions(endpoint=f"http://127.0.0.1:{server.server_port}", cache_dir=tmp_path / "cache")
    server.shutdown()
    server.server_close()
    thread.join()


def test_rows_from_the_hub(hub: HubOptions) -> None:
    HubStandIn.repos["allenai/ai2_arc"] = {
        "main": {
            "README.md": b"#",
            "ARC-Challenge/train-00000-of-00001.jsonl": jsonl({"wrong": 1}),
            "ARC-Easy/test-00000-of-00001.jsonl": jsonl({"wrong": 1}),
            "ARC-Easy/train-00001-of-00002.jsonl": jsonl(
                {"question": "q2", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}
            ),
            "ARC-Easy/train-00000-of-00002.jsonl": jsonl(
                {"question": "q1", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}
            ),
        }
    }
    found = read_task(builtin_task("arc_easy"), hub=hub)
    assert (found.split, found.substituted) == ("train", False)
    assert ["q1" in e.prompt for e in found.examples] == [True, False]
    HubStandIn.down = True
    offline = HubOptions(endpoint=hub.endpoint, cache_dir=hub.cache_dir, offline=True)
    assert read_task(builtin_task("arc_easy"), hub=offline) == found


def test_script_datasets_come_from_the_conversion(hub: HubOptions) -> None:
    HubStandIn.repos["ybisk/piqa"] = {
        "main": {"piqa.py": b"raise SystemExit", "README.md": b"#"},
        "refs/convert/parquet": {"plain_text/validation/0000.jsonl": jsonl(ROW)},
    }
    found = read_task(builtin_task("piqa"), hub=hub)
    assert (found.split, found.substituted) == ("validation", True)


def test_a_pinned_revision(hub: HubOptions) -> None:
    HubStandIn.repos["a/b"] = {
        "main": {"data/train.jsonl": jsonl({"prompt": "new", "answer": "x"})},
        "v1": {"data/train.jsonl": jsonl({"prompt": "old", "answer": "x"})},
    }
    task = Task("t", Template(), HubSource("a/b", revision="v1"))
    assert read_task(task, hub=hub).examples[0].prompt == "old"


def test_what_is_not_there(hub: HubOptions) -> None:
    HubStandIn.repos["a/b"] = {"main": {"README.md": b"#"}}
    for repo in ("a/b", "a/none"):
        with pytest.raises(NotFoundError) as caught:
            fetch_split(repo, splits=("train",), options=hub)
        assert caught.value.kind is ErrorKind.UNKNOWN_SOURCE
    offline = HubOptions(cache_dir=hub.cache_dir, offline=True)
    with pytest.raises(NotFoundError):
        fetch_split("a/b", splits=("train",), options=offline)


def test_no_network_is_said() -> None:
    # Nothing listens on the discard port.
    with pytest.raises(StorageError) as caught:
        fetch_split("a/b", splits=("train",), options=HubOptions(endpoint="http://127.0.0.1:9"))
    assert caught.value.kind is ErrorKind.REMOTE
    assert caught.value.retryable
    assert "--file" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00001.parquet", "train"),
        ("plain_text/validation/0000.parquet", "validation"),
        ("piqa_dev.jsonl", "validation"),
        ("val.csv", "validation"),
        ("training.jsonl", "train"),
        ("contest.jsonl", None),
        ("test/trainable.jsonl", "test"),
    ],
)
def test_split_of(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_groups_prefer_configuration_then_prefix() -> None:
    names = ["train_xl/test.jsonl", "train_s/train.jsonl", "a_train.jsonl", "b_dev.jsonl", "x.md"]
    assert group_by_split(names, config="train_xl", prefix=None) == {"test": ["train_xl/test.jsonl"]}
    assert group_by_split(names, config=None, prefix="b") == {"validation": ["b_dev.jsonl"]}
    assert group_by_split(["rows.jsonl"], config=None, prefix=None) == {"train": ["rows.jsonl"]}
    assert group_by_split(["x.md"], config=None, prefix=None) == {}
