"""Arrow schema of every table of the lake.

Embeddings are fixed-size lists, so their type depends on the encoder: `embeddings(dim)` makes it.
Images follow the layout that dataset viewers understand: `struct<bytes, path>`.
"""

from __future__ import annotations

import pyarrow as pa

from scot_core.errors import ConfigError
from scot_core.lake.fingerprint import digest

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def embeddings(dim: int) -> pa.Schema:
    """Schema of `embeddings` for vectors of `dim` float32 numbers, L2-normalised."""
    return pa.schema(
        [
            ("item_id", pa.string()),  # an image id, or `text_id` of the text
            ("source", pa.string()),
            ("kind", pa.string()),  # image | text
            ("text", pa.string()),  # the embedded text; null for images
            ("encoder", pa.string()),
            ("vector", pa.list_(pa.float32(), dim)),
            ("key", pa.string()),
        ]
    )


def pseudo_tokens(dim: int) -> pa.Schema:
    """Schema of `pseudo_tokens` for word embeddings of `dim` float32 numbers."""
    return pa.schema(
        [
            ("source", pa.string()),
            ("image_id", pa.string()),
            ("concepts", pa.string()),  # nearest first, between semicolons; empty where none are looked at
            ("loss", pa.float64()),  # mean over the last steps
            ("encoder", pa.string()),
            ("vector", pa.list_(pa.float32(), dim)),
            ("key", pa.string()),
        ]
    )


SCHEMAS: dict[str, pa.Schema] = {
    # captioned images: what everything starts from
    "captions": pa.schema(
        [
            ("pair_id", pa.string()),
            ("source", pa.string()),
            ("image_id", pa.string()),
            ("caption", pa.string()),
            ("image", IMAGE),
            ("key", pa.string()),
        ]
    ),
    # images of a benchmark that live in the lake: draw is test or development, role is reference or gallery; what an
    # image shows, and of references what is asked of it, as JSON
    "galleries": pa.schema(
        [
            ("source", pa.string()),
            ("image_id", pa.string()),
            ("draw", pa.string()),
            ("role", pa.string()),
            ("shows", pa.string()),
            ("query", pa.string()),
            ("image", IMAGE),
            ("key", pa.string()),
        ]
    ),
    # what a language model said, whole; attempt 1 is the first try
    "replies": pa.schema(
        [
            ("pair_id", pa.string()),
            ("source", pa.string()),
            ("stage", pa.string()),
            ("model", pa.string()),
            ("attempt", pa.int8()),
            ("seed", pa.int64()),
            ("text", pa.string()),
            ("finish_reason", pa.string()),
            ("prompt_tokens", pa.int32()),
            ("completion_tokens", pa.int32()),
            ("usd", pa.float64()),
            ("key", pa.string()),
        ]
    ),
    "triplets": pa.schema(
        [
            ("pair_id", pa.string()),
            ("source", pa.string()),
            ("image_id", pa.string()),
            ("kind", pa.string()),  # seed | generated
            ("caption", pa.string()),
            ("modification", pa.string()),
            ("modified_caption", pa.string()),
            ("model", pa.string()),
            ("key", pa.string()),
        ]
    ),
    "rejects": pa.schema(
        [
            ("pair_id", pa.string()),
            ("source", pa.string()),
            ("stage", pa.string()),
            ("reason", pa.string()),
            ("raw", pa.string()),
            ("tries", pa.int8()),
            ("key", pa.string()),
        ]
    ),
    # training curves and evaluations, one number a row; the weights lie beside them as safetensors
    "adapters": pa.schema(
        [
            ("source", pa.string()),
            ("phase", pa.string()),  # train | before | after
            ("step", pa.int32()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("key", pa.string()),
        ]
    ),
    "encoders": pa.schema(
        [
            ("source", pa.string()),
            ("phase", pa.string()),  # train | validation | held-out
            ("step", pa.int32()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("key", pa.string()),
        ]
    ),
    "combiners": pa.schema(
        [
            ("source", pa.string()),
            ("method", pa.string()),
            ("seed", pa.int32()),
            ("step", pa.int32()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("key", pa.string()),
        ]
    ),
    # value, low and high in percent; low and high are a 95 % bootstrap interval over queries
    "benchmarks": pa.schema(
        [
            ("source", pa.string()),
            ("benchmark", pa.string()),
            ("split", pa.string()),
            ("method", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("low", pa.float64()),
            ("high", pa.float64()),
            ("queries", pa.int32()),
            ("seeds", pa.int32()),
            ("encoder", pa.string()),
            ("key", pa.string()),
        ]
    ),
    # what is said about a concept of a vocabulary, for SEARLE's L_gpt
    "phrases": pa.schema(
        [
            ("source", pa.string()),
            ("concept", pa.string()),
            ("phrase", pa.string()),
            ("model", pa.string()),
            ("key", pa.string()),
        ]
    ),
    "pseudo_tokens": pseudo_tokens(0),
    # training curves of φ's, one number a row; the weights lie beside them as safetensors
    "inverters": pa.schema(
        [
            ("source", pa.string()),
            ("method", pa.string()),  # searle | pic2word | lincir
            ("seed", pa.int32()),
            ("step", pa.int32()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("key", pa.string()),
        ]
    ),
    # a metric of one query by one run (seed) of a method, in percent, or `ms`, the query's milliseconds
    "scores": pa.schema(
        [
            ("source", pa.string()),
            ("benchmark", pa.string()),
            ("split", pa.string()),  # a query stands in each of its splits
            ("stratum", pa.string()),  # the split's value is the mean of its strata's means; empty where there is one
            ("query_id", pa.string()),
            ("method", pa.string()),
            ("run", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("encoder", pa.string()),
            ("key", pa.string()),
        ]
    ),
    "embeddings": embeddings(0),
}

VECTORS = {"embeddings": embeddings, "pseudo_tokens": pseudo_tokens}
"""Tables whose schema depends on the length of their vectors."""

TABLES = tuple(SCHEMAS)


def schema_of(table: str, dim: int | None = None) -> pa.Schema:
    """The schema a part of `table` must have.

    Raises ConfigError for a table that does not exist.
    """
    if table not in SCHEMAS:
        raise ConfigError(f"there is no table {table!r}; the tables are {', '.join(TABLES)}")
    return VECTORS[table](dim) if table in VECTORS and dim is not None else SCHEMAS[table]


def texts_of(schema: pa.Schema) -> list[str]:
    """Names of the columns of text."""
    return [field.name for field in schema if pa.types.is_string(field.type)]


def _digest(*parts: str) -> str:
    return digest("\x1f".join(parts).encode("utf-8", "surrogatepass"))


def pair_id(source: str, image_id: str, caption: str) -> str:
    """Id of a captioned image: 32 hex digits of blake2b over source, image id and caption."""
    return _digest(source, image_id, caption)


def text_id(text: str) -> str:
    """Id of a text in `embeddings`: 32 hex digits of blake2b."""
    return _digest(text)
