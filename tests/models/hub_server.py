"""A model hub on loopback, for HF_ENDPOINT: what the real one answers, headers and all.

Its models are folders `<owner>/<name>` below one folder. What it refuses is in the owner's name:
gated (401 without a token, 403 with one), private, strict (a wrong token).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", COMMIT)
Refusal = tuple[int, str, str]
"""Status, X-Error-Code, X-Error-Message."""


class Hub(BaseHTTPRequestHandler):
    """Answers of one hub; `folder` and `asked` are set by `serving`."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[0] == "api" and parts[1] in ("models", "datasets")
        parts = parts[1:] if parts[0] == "datasets" else parts
        owner, name, kind, revision, *rest = [*(parts[2:] if api else parts), "", "", ""]
        if refusal := self._refusal(owner, api, (self.folder / owner / name).is_dir(), revision):
            status, code, message = refusal
            self._answer(status, {}, {"X-Error-Code": code, "X-Error-Message": message})
        elif api and kind == "revision":
            self._answer(200, {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": []})
        elif api:
            files = [file for file in (self.folder / owner / name).iterdir() if file.is_file()]
            rows = [{"type": "file", "path": file.name, "oid": self._etag(file)} for file in files]
            sizes = [file.stat().st_size for file in files]
            self._answer(200, [row | {"size": n} for row, n in zip(rows, sizes, strict=True)])
        else:
            self._file(self.folder / owner / name / "/".join(part for part in rest if part))

    def _refusal(self, owner: str, api: bool, there: bool, revision: str) -> Refusal | None:
        token = self.headers.get("Authorization")
        if owner == "gated" and not api:  # what it says of itself is public
            who = "and you are not in the authorized list" if token else "Please log in"
            return 403 if token else 401, "GatedRepo", f"Access to model is restricted. {who}"
        if owner == "private" or not (there or owner in ("gated", "strict")):
            return 401, "RepoNotFound", "Invalid username or password."
        if owner == "strict":
            return 401, "", "Invalid credentials in Authorization header"
        if revision not in REVISIONS:
            return 404, "RevisionNotFound", f"Invalid rev id: {revision}"
        return None

    def _file(self, file: Path) -> None:
        if not file.is_file():
            message = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            self._answer(404, {}, message)
            return
        headers = {"ETag": f'"{self._etag(file)}"', "X-Repo-Commit": COMMIT}
        self._answer(200, file.read_bytes(), headers)

    @staticmethod
    def _etag(file: Path) -> str:
        return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()

    def _answer(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(the hub's address, what it was asked so far) while it serves the models below a folder."""
    asked: list[str] = []
    handler = type("Handler", (Hub,), {"folder": folder, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
