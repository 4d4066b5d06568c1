"""A server on loopback that answers with whatever bytes a test wants, and remembers what it was sent."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request, and the way to answer it."""

    handler: BaseHTTPRequestHandler
    body: bytes

    @property
    def path(self) -> str:
        return self.handler.path

    def send(self, content: bytes | str, status: int = 200, **headers: str) -> None:
        """A whole answer; underscores of header names stand for hyphens."""
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        self.head(status, **{"Content_Type": "application/json", "Content_Length": str(len(data)), **headers})
        self.handler.wfile.write(data)

    def head(self, status: int = 200, **headers: str) -> None:
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()

    def pour(self, block: bytes, pause_s: float = 0.0) -> None:
        """The same bytes again and again, until nobody listens."""
        while True:
            self.handler.wfile.write(block)
            self.handler.wfile.flush()
            time.sleep(pause_s)


@dataclass
class Hostile:
    url: str = ""
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def answering(answer: Callable[[Asked], object]) -> Iterator[Hostile]:
    """Serve until the end of the block; `url` ends in /v1."""
    served = Hostile()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = Asked(self, self.rfile.read(int(self.headers.get("content-length") or 0)))
            served.asked.append(asked)
            with contextlib.suppress(OSError):  # whoever asked has gone
                answer(asked)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing: tests read what the client says."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(content: object, usage: object = None) -> str:
    """A chat completion as a server words it; lone surrogates stand in it as escapes."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    counts = {"prompt_tokens": 300, "completion_tokens": 20} if usage is None else usage
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": counts})


def triplet(asked: str, modified: str = "a blue mug") -> str:
    """A reply whose text is `asked` as it stands, escapes and all."""
    return f'{{"modification": "{asked}", "modified_caption": "{modified}"}}'


# by name: the content of a completion, and why it makes no triplet
REJECTED = {
    "a lone surrogate": (triplet("blue \ud800"), "error_wrong_encoding"),
    "half a pair at the end": (triplet("blue") + "\udc00", "error_wrong_encoding"),
    "a lone surrogate in the JSON of the reply": (triplet(r"blue \ud800"), "error_wrong_encoding"),
    "one in the name of a field": (r'{"\udfff": 1}', "error_wrong_encoding"),
    "one deep in a list": (r'[[["\ud800"]]]', "error_wrong_encoding"),
    "one in a fenced block": ("```json\n" + triplet(r"\ud834") + "\n```", "error_wrong_encoding"),
    "NUL": (triplet("blue\0"), "error_control_characters"),
    "NUL as an escape": (triplet(r"blue\u0000"), "error_control_characters"),
    "a colour of the terminal": (triplet("\x1b[31mblue"), "error_control_characters"),
    "the same as an escape": (triplet(r"\u001b[31mblue"), "error_control_characters"),
    "its title": ("\x1b]0;pwned\x07" + triplet("blue"), "error_control_characters"),
    "the bell": (triplet(r"\u0007blue"), "error_control_characters"),
    "a backspace": (triplet(r"red\b\b\bblue"), "error_control_characters"),
    "a form feed": (triplet(r"blue\f"), "error_control_characters"),
    "delete": (triplet("blue\x7f"), "error_control_characters"),
    "an eight-bit escape": (triplet("\x9b31mblue"), "error_control_characters"),
    "text from right to left": (triplet("blue \u202eder"), "error_control_characters"),
    "the same as an escape of its own": (triplet(r"blue \u202Eder"), "error_control_characters"),
    "an isolate": (triplet("\u2066blue\u2069"), "error_control_characters"),
    "a control in the name of a field": (r'{"modification\u0000": "x"}', "error_control_characters"),
    "brackets without an end": ("[" * 100_000, "not_json"),
    "objects without an end": ('{"a":' * 100_000, "not_json"),
    "brackets with an end": ("[" * 100_000 + "]" * 100_000, "not_json"),
    "a number of ten thousand digits": ('{"modification": ' + "9" * 10_000 + "}", "not_json"),
    "no number": ("NaN", "wrong_schema"),
    "a fence and a sea of spaces": ("```" + " " * 300_000 + "x", "not_json"),
    "a fence and nothing else": ("`" * 5, "not_json"),
    "null": ("null", "wrong_schema"),
    "null in a field": ('{"modification": null, "modified_caption": "a"}', "wrong_schema"),
    "nothing": ("", "not_json"),
    "another page": ("<!doctype html><script>alert(1)</script>", "not_json"),
}
