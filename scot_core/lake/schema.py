"""The columns of every table of the lake, and their Arrow schema.

Columns are named with the names of Arrow's types, and two more: `image` follows the layout that dataset viewers
understand, `struct<bytes, path>`, and a `vector` is a fixed-size list of float32, as long as the encoder makes it.

Arrow is imported where a schema is asked for: commands that only look into the lake have no use for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from scot_core.errors import ConfigError
from scot_core.lake.fingerprint import digest

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    # captioned images: what everything starts from
    "captions": {
        "pair_id": "string",
        "source": "string",
        "image_id": "string",
        "caption": "string",
        "image": "image",
        "key": "string",
    },
    # images of a benchmark that live in the lake: draw is test or development, role is reference or gallery; what an
    # image shows, and of references what is asked of it, as JSON
    "galleries": {
        "source": "string",
        "image_id": "string",
        "draw": "string",
        "role": "string",
        "shows": "string",
        "query": "string",
        "image": "image",
        "key": "string",
    },
    # what a language model said, whole; attempt 1 is the first try
    "replies": {
        "pair_id": "string",
        "source": "string",
        "stage": "string",
        "model": "string",
        "attempt": "int8",
        "seed": "int64",
        "text": "string",
        "finish_reason": "string",
        "prompt_tokens": "int32",
        "completion_tokens": "int32",
        "usd": "float64",
        "key": "string",
    },
    "triplets": {
        "pair_id": "string",
        "source": "string",
        "image_id": "string",
        "kind": "string",  # seed | generated
        "caption": "string",
        "modification": "string",
        "modified_caption": "string",
        "model": "string",
        "key": "string",
    },
    "rejects": {
        "pair_id": "string",
        "source": "string",
        "stage": "string",
        "reason": "string",
        "raw": "string",
        "tries": "int8",
        "key": "string",
    },
    # training curves and evaluations, one number a row; the weights lie beside them as safetensors
    "adapters": {
        "source": "string",
        "phase": "string",  # train | before | after
        "step": "int32",
        "metric": "string",
        "value": "float64",
        "key": "string",
    },
    "encoders": {
        "source": "string",
        "phase": "string",  # train | validation | held-out
        "step": "int32",
        "metric": "string",
        "value": "float64",
        "key": "string",
    },
    "combiners": {
        "source": "string",
        "method": "string",
        "seed": "int32",
        "step": "int32",
        "metric": "string",
        "value": "float64",
        "key": "string",
    },
    # value, low and high in percent; low and high are a 95 % bootstrap interval over queries
    "benchmarks": {
        "source": "string",
        "benchmark": "string",
        "split": "string",
        "method": "string",
        "metric": "string",
        "value": "float64",
        "low": "float64",
        "high": "float64",
        "queries": "int32",
        "seeds": "int32",
        "encoder": "string",
        "key": "string",
    },
    # what is said about a concept of a vocabulary, for SEARLE's L_gpt
    "phrases": {
        "source": "string",
        "concept": "string",
        "phrase": "string",
        "model": "string",
        "key": "string",
    },
    "pseudo_tokens": {
        "source": "string",
        "image_id": "string",
        "concepts": "string",  # nearest first, between semicolons; empty where none are looked at
        "loss": "float64",  # mean over the last steps
        "encoder": "string",
        "vector": "vector",  # a word embedding
        "key": "string",
    },
    # training curves of φ's, one number a row; the weights lie beside them as safetensors
    "inverters": {
        "source": "string",
        "method": "string",  # searle | pic2word | lincir
        "seed": "int32",
        "step": "int32",
        "metric": "string",
        "value": "float64",
        "key": "string",
    },
    # a metric of one query by one run (seed) of a method, in percent, or `ms`, the query's milliseconds
    "scores": {
        "source": "string",
        "benchmark": "string",
        "split": "string",  # a query stands in each of its splits
        "stratum": "string",  # the split's value is the mean of its strata's means; empty where there is one
        "query_id": "string",
        "method": "string",
        "run": "string",
        "metric": "string",
        "value": "float64",
        "encoder": "string",
        "key": "string",
    },
    "embeddings": {
        "item_id": "string",  # an image id, or `text_id` of the text
        "source": "string",
        "kind": "string",  # image | text
        "text": "string",  # the embedded text; null for images
        "encoder": "string",
        "vector": "vector",  # L2-normalised
        "key": "string",
    },
}

VECTORS: Final = tuple(table for table, columns in COLUMNS.items() if "vector" in columns.values())
"""Tables whose schema depends on the length of their vectors."""

TABLES: Final = tuple(COLUMNS)


def columns_of(table: str) -> Mapping[str, str]:
    """Types by name. Raises ConfigError for a table that does not exist."""
    if table not in COLUMNS:
        raise ConfigError(f"there is no table {table!r}; the tables are {', '.join(TABLES)}")
    return COLUMNS[table]


def texts_of(table: str) -> list[str]:
    """Names of the columns of text."""
    return [name for name, kind in COLUMNS[table].items() if kind == "string"]


def schema_of(table: str, dim: int = 0) -> pa.Schema:
    """The schema a part of `table` must have, with vectors of `dim` numbers.

    Raises ConfigError for a table that does not exist.
    """
    import pyarrow as pa

    own = {
        "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        "vector": pa.list_(pa.float32(), dim),
    }
    return pa.schema([(name, own.get(kind, kind)) for name, kind in columns_of(table).items()])


def _digest(*parts: str) -> str:
    return digest("\x1f".join(parts).encode("utf-8", "surrogatepass"))


def pair_id(source: str, image_id: str, caption: str) -> str:
    """Id of a captioned image: 32 hex digits of blake2b over source, image id and caption."""
    return _digest(source, image_id, caption)


def text_id(text: str) -> str:
    """Id of a text in `embeddings`: 32 hex digits of blake2b."""
    return _digest(text)
