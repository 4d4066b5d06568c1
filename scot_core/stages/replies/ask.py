"""Replies of an endpoint, journalled as they arrive: what every step that asks one has in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from operator import itemgetter
from typing import Any, Final

from pydantic import SecretStr

from scot_core.config import ServerConfig
from scot_core.config.settings import settings
from scot_core.lake.draft import Draft
from scot_core.lake.storage import Journal
from scot_core.llm import Reply
from scot_core.llm.plain import is_count, plain
from scot_core.llm.remote.chat import Request
from scot_core.stages.step import Tick

Record = dict[str, Any]  # of a journal: id, the fields of a reply, usd

_UNKNOWN: Final[Record] = {"prompt_tokens": 0, "completion_tokens": 0, "usd": 0.0}


def key_or(given: SecretStr | None) -> str:
    """The key that was handed over, else that of the environment."""
    return (given or settings().api_key).get_secret_value()


def kept_records(draft: Draft, shard: int) -> dict[str, Record]:
    """What is in a shard's journal, by request id.

    Older versions kept replies that are no plain text, and counts that cannot be: the former become rejects, the latter
    those of the dearest reply beside them.
    """
    records = [_plain(record) for record in draft.journal(shard).records()]
    dearest = max(filter(_is_counted, records), key=itemgetter("usd"), default=_UNKNOWN)
    estimate = {name: dearest[name] for name in _UNKNOWN}
    return {r["id"]: r if _is_counted(r) else {**r, **estimate, "counted": False} for r in records}


def _plain(record: Record) -> Record:
    reply = Reply(**{field.name: record[field.name] for field in fields(Reply) if field.name in record})
    return {**record, **asdict(plain(reply))}


def _is_counted(record: Record) -> bool:
    return record["usd"] >= 0 and is_count(record["prompt_tokens"]) and is_count(record["completion_tokens"])


def keep(draft: Draft, shard: int, replies: Iterable[tuple[str, Reply, float]]) -> int:
    """Append replies to a shard's journal, those apart that are in it; returns how many were."""
    known, journal, count = kept_records(draft, shard), draft.journal(shard), 0
    try:
        for request_id, reply, usd in replies:
            if request_id not in known:
                known[request_id] = {"id": request_id, **asdict(reply), "usd": usd}
                journal.append(known[request_id])
                count += 1
    finally:
        journal.close()
    return count


def ask_and_keep(
    draft: Draft,
    shard: int,
    server: ServerConfig,
    api_key: str,
    requests: Sequence[Request],
    tick: Tick,
    *,
    max_usd: float | None = None,
    spent_usd: float = 0.0,
) -> dict[str, Record]:
    """Ask for what is not in a shard's journal yet; returns all of it, or the shard's part, by request id.

    Raises what `ask` raises; what was answered until then is in the journal. Raises LakeError where another run is
    asking for the same on this disk.
    """
    journal = draft.journal(shard)
    with journal.alone():
        if draft.has_part(shard):  # another run was first, and its journal may be gone with its commit
            tick(len(requests))
            return {row["pair_id"]: row for row in draft.read_part(shard).to_pylist()}
        return _ask(draft, shard, journal, server, api_key, requests, tick, max_usd, spent_usd)


def _ask(
    draft: Draft, shard: int, journal: Journal, server: ServerConfig, api_key: str,
    requests: Sequence[Request], tick: Tick, max_usd: float | None, spent_usd: float,
) -> dict[str, Record]:  # fmt: skip
    from scot_core.llm.remote.endpoint import ask  # loads openai

    kept = kept_records(draft, shard)
    tick(len(kept))

    def on_reply(request_id: str, reply: Reply, usd: float) -> None:
        record = {"id": request_id, **asdict(reply), "usd": usd}
        journal.append(record)
        kept[request_id] = record
        tick(1)

    try:
        missing = [request for request in requests if request.id not in kept]
        if missing:
            ask(server, api_key, missing, on_reply=on_reply, max_usd=max_usd, spent_usd=spent_usd)
    finally:
        journal.close()
    return kept
