"""The teacher's Batch API: files, batches, and what becomes of them one look after the other."""

from __future__ import annotations

import email
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Answer = Callable[[dict[str, Any], Mapping[str, str]], Response]

_PATH: Final = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a batch.

    Attributes:
        looks: how often it is looked at before it has ended.
        end: its last status: completed, expired, cancelled, or failed, which it is at the first look.
        answered: the share of its requests that are answered then.
    """

    looks: int = 1
    end: str = "completed"
    answered: float = 1.0


@dataclass
class _Batch:
    id: str
    file_id: str
    metadata: dict[str, str]
    fate: Fate
    requests: int
    created_at: int = field(default_factory=lambda: int(time.time()))
    looks: int = 0
    status: str = "validating"
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        problem = {"object": "list", "data": [{"code": "invalid_json_line", "message": "line 1 is broken", "line": 1}]}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": _PATH,
            "input_file_id": self.file_id,
            "completion_window": "24h",
            "status": self.status,
            "errors": problem if self.status == "failed" else None,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "request_counts": {"total": self.requests, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        }


class Batches:
    """Answers files line by line, in the moment a batch ends."""

    def __init__(self, fate: Callable[[int], Fate], answer: Answer) -> None:
        self._fate, self._answer = fate, answer
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, _Batch] = {}

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/v1/files", self.upload, methods=["POST"]),
            Route("/v1/files/{id}/content", self.content),
            Route("/v1/batches", self.create, methods=["POST"]),
            Route("/v1/batches", self.page),
            Route("/v1/batches/{id}", self.look),
        ]

    async def upload(self, request: Request) -> Response:
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        for part in email.message_from_bytes(head + await request.body()).walk():
            if part.get_param("name", header="content-disposition") == "file":
                content = part.get_payload(decode=True)
                name = part.get_filename() or ""
                file_id = self._store(content if isinstance(content, bytes) else b"")
                size = len(self._files[file_id])
                return JSONResponse(
                    {"id": file_id, "object": "file", "bytes": size, "created_at": int(time.time()),
                     "filename": name, "purpose": "batch", "status": "processed"}
                )  # fmt: skip
        return _missing("a file to upload", 400)

    async def content(self, request: Request) -> Response:
        content = self._files.get(request.path_params["id"])
        return _missing("such a file") if content is None else Response(content)

    async def create(self, request: Request) -> Response:
        body = await request.json()
        content = self._files.get(body["input_file_id"])
        if content is None:
            return _missing(f"file {body['input_file_id']}", 400)
        number = len(self._batches)
        batch = _Batch(
            f"batch_{number:04d}", body["input_file_id"], body.get("metadata") or {},
            self._fate(number), content.count(b"\n"),
        )  # fmt: skip
        self._batches[batch.id] = batch
        return JSONResponse(batch.as_json())

    async def page(self, request: Request) -> Response:
        newest = list(self._batches.values())[::-1]
        ids = [batch.id for batch in newest]
        after = request.query_params.get("after")
        start = 0 if after is None else ids.index(after) + 1
        end = start + int(request.query_params.get("limit", "20"))
        page = [batch.as_json() for batch in newest[start:end]]
        return JSONResponse({"object": "list", "data": page, "has_more": end < len(newest)})

    async def look(self, request: Request) -> Response:
        batch = self._batches.get(request.path_params["id"])
        if batch is None:
            return _missing("such a batch")
        self._go_on(batch)
        return JSONResponse(batch.as_json())

    def _go_on(self, batch: _Batch) -> None:
        if batch.status in ("completed", "expired", "cancelled", "failed"):
            return
        batch.looks += 1
        if batch.fate.end == "failed":
            batch.status = "failed"
        elif batch.looks >= batch.fate.looks:
            self._answer_all(batch)
        else:
            batch.status = "in_progress"
            batch.completed = batch.requests * batch.looks // batch.fate.looks

    def _answer_all(self, batch: _Batch) -> None:
        lines = [json.loads(line) for line in self._files[batch.file_id].splitlines()]
        count = int(len(lines) * batch.fate.answered)
        answered: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for number, line in enumerate(lines):
            named = {"id": f"batch_req_{number}", "custom_id": line["custom_id"]}
            if number >= count:
                error = {"code": f"batch_{batch.fate.end}", "message": "this request could not be executed in time"}
                failed.append({**named, "response": None, "error": error})
            elif (response := self._answer(line["body"], {})).body:
                told = {"status_code": response.status_code, "request_id": str(number), "body": _body(response)}
                (answered if response.status_code == 200 else failed).append({**named, "response": told, "error": None})
        batch.status, batch.completed, batch.failed = batch.fate.end, len(answered), len(failed)
        batch.output_file_id = self._store(_lines(answered)) if answered else None
        batch.error_file_id = self._store(_lines(failed)) if failed else None

    def _store(self, content: bytes) -> str:
        file_id = f"file-{len(self._files):04d}"
        self._files[file_id] = content
        return file_id


def _lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records[::-1])  # in no order to rely on


def _body(response: Response) -> Any:
    """What a client would have read; what is no JSON is nothing it can use."""
    try:
        return json.loads(bytes(response.body))
    except ValueError:
        return None


def _missing(what: str, status: int = 404) -> Response:
    return JSONResponse({"error": {"message": f"there is no {what}", "type": "error", "code": None}}, status)
