"""Datasets from a stand-in for the Hub on the loopback interface; nothing leaves the machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


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


@contextmanager
def serving() -> Iterator[str]:
    """Serve `HubStandIn.repos`, empty at first; yields the endpoint."""
    HubStandIn.repos, HubStandIn.down = {}, False
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubStandIn)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def commit_of(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
