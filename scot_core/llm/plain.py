r"""Replies that can be stored and shown: text that is none becomes a finish reason before it is kept.

A lone surrogate fits into no file; a control character acts on the terminal that shows it, and the overrides,
embeddings and isolates of bidirectional text show something else than what is stored. Either may also be spelled as an
escape (`\u001b`) of the JSON in a reply, and would be there once that is parsed. Tabs, line ends, joiners, variation
selectors and the bidirectional marks that Hebrew and Arabic are written with are text.

This is no part of how replies are parsed, and changes the reading of none that is stored: `PARSER_VERSION` stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from scot_core.llm import Reply
from scot_core.triplets import unfenced

MOST_TOKENS: Final = 10_000_000  # of one request: no model reads or writes more
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(reply: Reply) -> Reply:
    r"""A reply whose text can be kept: as it is, else "error:wrong_encoding" or "error:control_characters".

    Text that a file cannot hold or a terminal would obey is kept as escapes (`\ud800`, `\u001b`), so that a person sees
    what was sent. What is plain already is returned as it is.
    """
    texts = [reply.text, *_inside(reply.text)]
    if any(map(_SURROGATE.search, texts)):
        finish = "error:wrong_encoding"
    elif any(map(_CONTROL.search, texts)):
        finish = "error:control_characters"
    else:
        return reply
    return replace(reply, text=escaped(reply.text), finish_reason=finish)


def escaped(text: str) -> str:
    r"""`text` with what is no text of a line or two written out, such as `\u001b`."""
    for kind in (_SURROGATE, _CONTROL):
        text = kind.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    return text


def is_count(tokens: int) -> bool:
    """Whether a request can have taken that many tokens."""
    return 0 <= tokens <= MOST_TOKENS


def _inside(text: str) -> Iterator[str]:
    """The strings of a reply that is JSON, where they may differ from what is written."""
    if "\\" not in text:
        return
    try:
        waiting = [json.loads(unfenced(text))]
    except (ValueError, RecursionError):  # it will be a reject
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
