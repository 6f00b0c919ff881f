"""`dvx import hf://…` through the real client, against a stand-in of the Hub's download endpoints."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save

COMMIT = {name: hashlib.sha1(name.encode()).hexdigest() for name in ("main", "v2")}


def weights(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return save({"model.embed_tokens.weight": rng.standard_normal((64, 16)).astype(np.float32)})


class Hub(BaseHTTPRequestHandler):
    """Model information, file tree, file metadata (HEAD) and files (GET); one public and one gated model."""

    files: ClassVar[dict[str, dict[str, bytes]]]
    lies: ClassVar[set[str]]
    url: ClassVar[str]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        if path.startswith("api/models/"):
            return self._info(path.removeprefix("api/models/"))
        repo, _, rest = path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        known = {COMMIT[r]: files for r, files in self.files.items()} if repo == "acme/tiny" else {}
        content = known.get(revision, {}).get(name)
        if content is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": revision, "X-Linked-Etag": f'"{etag}"'}
        return self._send(200, content, headers)

    def _info(self, rest: str) -> None:
        repo, _, revision = rest.replace("/tree/", "/revision/").partition("/revision/")
        by_commit = {commit: name for name, commit in COMMIT.items()}
        revision = by_commit.get(revision, revision or "main")
        if repo == "acme/gated":
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if repo != "acme/tiny":
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if revision not in self.files:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if "/tree/" in rest:
            tree = [self._leaf(name, data) for name, data in self.files[revision].items()]
            return self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        siblings = [self._sibling(name, data) for name, data in self.files[revision].items()]
        info = {"id": repo, "sha": COMMIT[revision], "siblings": siblings, "tags": [], "private": False}
        return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _leaf(self, name: str, data: bytes) -> dict[str, object]:
        out: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
        if name.endswith((".safetensors", ".bin")):
            digest = hashlib.sha256(data).hexdigest()
            out["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
        return out

    def _sibling(self, name: str, data: bytes) -> dict[str, object]:
        out: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": "0" * 40}
        if name.endswith((".safetensors", ".bin")):
            digest = "0" * 64 if name in self.lies else hashlib.sha256(data).hexdigest()
            out["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
        return out

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[type[Hub]]:
    class ThisHub(Hub):
        files: ClassVar[dict[str, dict[str, bytes]]] = {
            name: {
                "model.safetensors": weights(i),
                "pytorch_model.bin": b"never downloaded",
                "config.json": b'{"model_type": "llama"}',
                "nested/notes.txt": name.encode(),
            }
            for i, name in enumerate(COMMIT)
        }
        lies: ClassVar[set[str]] = set()

    server = ThreadingHTTPServer(("127.0.0.1", 0), ThisHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ThisHub.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield ThisHub
    server.shutdown()
    server.server_close()


@pytest.fixture
def dvx(hub: type[Hub], tmp_path: Path) -> Any:
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HOME": str(tmp_path),
        "DVX_REPO": str(tmp_path),
        "DVX_AUTHOR": "tester",
        "HF_HUB_DISABLE_XET": "1",
    }
    environment.pop("HF_TOKEN", None)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvx", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    assert run("init", str(tmp_path)).returncode == 0
    return run


def test_a_model_comes_with_its_revision_and_hashes(dvx: Any, hub: type[Hub], tmp_path: Path) -> None:
    done = dvx("import", "hf://acme/tiny", "--as", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(dvx("show", "tiny", "--json").stdout)
    source = shown["source"]
    assert source["hub"] == "acme/tiny"
    assert source["requested"] == "main"
    assert source["revision"] == COMMIT["main"]
    files = {name: data for name, data in hub.files["main"].items() if not name.endswith(".bin")}
    assert source["sha256"] == {n: hashlib.sha256(d).hexdigest() for n, d in files.items()}
    assert dvx("checkout", "tiny", "-o", str(tmp_path / "out")).returncode == 0
    for name, data in files.items():
        assert (tmp_path / "out" / name).read_bytes() == data
    assert not list((tmp_path / ".dvx" / "tmp").iterdir())


def test_another_revision(dvx: Any, hub: type[Hub], tmp_path: Path) -> None:
    assert dvx("import", "hf://acme/tiny@v2", "--as", "tiny").returncode == 0
    shown = json.loads(dvx("show", "tiny", "--json").stdout)
    assert shown["source"]["revision"] == COMMIT["v2"]
    assert dvx("checkout", "tiny", "-o", str(tmp_path / "out")).returncode == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights(1)


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("hf://acme/absent", 1, "does not exist, or you may not see it"),
        ("hf://acme/gated", 1, "hf auth login"),
        ("hf://acme/tiny@v9", 1, "does not exist"),
        ("hf://../../etc", 1, "hf://ORG/NAME"),
    ],
)
def test_what_is_not_there(dvx: Any, source: str, code: int, words: str) -> None:
    done = dvx("import", source, "--as", "tiny")
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(dvx("ls", "--json").stdout) == {"names": []}


def test_a_file_that_is_not_what_the_hub_declares(dvx: Any, hub: type[Hub]) -> None:
    hub.lies.add("model.safetensors")
    done = dvx("import", "hf://acme/tiny", "--as", "tiny")
    assert done.returncode == 12
    assert "model.safetensors" in done.stderr


def test_no_network(tmp_path: Path, dvx: Any, hub: type[Hub]) -> None:
    environment = {
        **os.environ,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "DVX_REPO": str(tmp_path),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "dvx", "import", "hf://acme/tiny"],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 14
    assert "cannot download" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_left_out_is_not_downloaded_and_is_named(dvx: Any, hub: type[Hub], tmp_path: Path) -> None:
    hub.files["main"] |= {"m.gguf": b"GGUF", "optimizer.pt": b"1234", "runs/a": b"12", "a[1].md": b"#"}
    told = ("--include", "*.gguf", "--exclude", "nested/", "--exclude", "*.none")
    done = json.loads(dvx("import", "hf://acme/tiny", "--as", "tiny", "--json", *told).stdout)
    assert {(x["path"], x["size"], x["cause"]) for x in done["left_out"]} == {
        ("nested/", 4, "excluded"),
        ("optimizer.pt", 4, "default"),
        ("pytorch_model.bin", 16, "superseded"),
        ("runs/", 2, "default"),
    }
    assert done["unmatched"] == ["*.none"]
    assert set(done["source"]["sha256"]) == {"a[1].md", "config.json", "m.gguf", "model.safetensors"}


def test_models_that_are_not_safetensors(dvx: Any, hub: type[Hub], tmp_path: Path) -> None:
    hub.files["main"] = {"config.json": b"{}", "pytorch_model.bin": b"1"}
    refused = dvx("import", "hf://acme/tiny", "--as", "tiny")
    assert refused.returncode == 1
    assert "hf://acme/tiny: the only weights are pickled ones" in refused.stderr
    assert "--allow-pickle-weights" in refused.stderr
    hub.files["v2"] = {"m.gguf": b"GGUF", "README.md": b"#"}
    assert "no tensors: kept as files, whole" in dvx("import", "hf://acme/tiny@v2", "--as", "tiny").stdout
    assert dvx("checkout", "tiny", "-o", str(tmp_path / "out")).returncode == 0
    assert (tmp_path / "out" / "m.gguf").read_bytes() == b"GGUF"
