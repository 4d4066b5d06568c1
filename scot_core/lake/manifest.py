"""The manifest of a dataset: what was committed, as JSON. It is written last, and it is the commit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    model_validator,
)

from scot_core.errors import LakeError
from scot_core.lake.fingerprint import KEY_DIGITS, canonical_json
from scot_core.lake.names import Reference, file_name, is_key, part_name, plain
from scot_core.lake.sealed import SEAL, is_sealed, plain_json, seal_of, sealed

MANIFEST = "_manifest.json"
FORMAT = 1
LIBRARIES = ("pyarrow", "numpy", "torch", "transformers", "peft", "bitsandbytes", "openai", "pillow")
LATEST = datetime(9000, 1, 1, tzinfo=UTC)  # leaves room for whatever is committed after it
_SHOWN = 3  # problems of one manifest that its error names


def _finite(config: dict[str, Any]) -> dict[str, Any]:
    canonical_json(config)  # raises ValueError for NaN and infinity, however deep
    return config


def _utc(moment: datetime) -> datetime:
    if moment.utcoffset() or not datetime(2000, 1, 1, tzinfo=UTC) <= moment < LATEST:
        raise ValueError(f"{moment.isoformat()} is not a time in UTC at which a dataset was committed")
    return moment


def _key(key: str) -> str:
    if not is_key(key):
        raise ValueError(f"{key!r} is not a key")
    return key


def _reference(value: object) -> Reference:
    return value if isinstance(value, Reference) else Reference.parse(str(value))


Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Column = Annotated[str, Field(pattern=r"^[a-z][a-z_]*$")]
Plain = Annotated[str, AfterValidator(plain)]
Input = Annotated[Reference, PlainValidator(_reference), PlainSerializer(str)]
Moment = Annotated[
    AwareDatetime,
    AfterValidator(_utc),
    PlainSerializer(lambda moment: moment.isoformat(timespec="microseconds")),
]


class _Entry(BaseModel):
    """Types as they are, not what could be read as them; fields of a later Scot are left alone."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="ignore", populate_by_name=True)


class End(_Entry):
    """The last bytes of a part: its footer."""

    bytes: Count
    digest: Digest


class Part(_Entry):
    """One Parquet file of rows. Lakes of the first Scots say nothing of its footer."""

    name: str
    rows: Count
    bytes: Count
    digest: Digest
    footer: End | None = None


class File(_Entry):
    """One file beside the parts, such as weights."""

    name: Annotated[str, AfterValidator(file_name)]
    bytes: Count
    digest: Digest


class Rows(_Entry):
    """What became of the rows: `given` (on disk: `in`) = `out` + `rejected`."""

    given: Count = Field(validation_alias="in", serialization_alias="in")
    out: Count
    rejected: Count


class Usage(_Entry):
    """What a dataset cost: tokens and money where a model was asked, seconds of work in the last run."""

    seconds: Amount = 0.0
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    usd: Amount = 0.0


class Manifest(_Entry):
    """What was committed: the fields, and their order, of the file."""

    format: Literal[1] = 1
    table: str
    key: Annotated[str, AfterValidator(_key)]
    fingerprint: Digest
    source: Plain
    stage: Plain
    config: Annotated[dict[str, Any], AfterValidator(_finite)]
    inputs: tuple[Input, ...]
    parts: tuple[Part, ...]
    files: tuple[File, ...]
    rows: Rows
    usage: Usage
    characters: dict[Column, Count] | None = None  # in each column of text; the first Scots did not count them
    versions: dict[str, str] = Field(default_factory=dict)
    created_at: Moment
    seal: Digest | None = None  # see `sealed`; manifests of the first Scots have none

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if not self.key.endswith(self.fingerprint[:KEY_DIGITS]):
            raise ValueError(f"key {self.key} is not of fingerprint {self.fingerprint}")
        for place, part in enumerate(self.parts):
            if part.name != part_name(place):
                raise ValueError(f"parts.{place}.name is {part.name!r}, not {part_name(place)}")
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("files names one twice")
        if (
            self.rows.out != sum(part.rows for part in self.parts)
            or self.rows.given != self.rows.out + self.rows.rejected
        ):
            raise ValueError("rows, and those of its parts, do not add up")
        return self

    def encode(self) -> bytes:
        """The file."""
        return sealed(self.model_dump(mode="json", by_alias=True, exclude={SEAL}))

    def as_read(self) -> bytes:
        """The file that it was read from, where that was laid out as `encode` does and holds nothing else."""
        return plain_json(self.model_dump(mode="json", by_alias=True, exclude_unset=True))


class _Head(_Entry):
    format: int


def parse(data: bytes, path: str, folder: str) -> Manifest:
    """The manifest that lies at `path`, in the folder `<table>/<key>`.

    Raises LakeError, naming path and field, where it is of another format, damaged, or of another folder.
    """
    try:
        found = _Head.model_validate_json(data).format
        if found != FORMAT:
            raise LakeError(f"{path} has format {found}, this version reads {FORMAT}: use the Scot that wrote it")
        manifest = Manifest.model_validate_json(data)
        what = _unlike(manifest, folder, data)
    except ValidationError as error:
        what = problems(error)
    if what:
        raise LakeError(f"{path} is no whole manifest ({what}); remove it and run again: it will be rebuilt")
    return manifest


def problems(error: ValidationError) -> str:
    """What does not fit, field by field."""
    found = [
        f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}".removeprefix(": ")
        for e in error.errors()
    ]
    return "; ".join(found[:_SHOWN]) + ("; …" if len(found) > _SHOWN else "")


def _unlike(manifest: Manifest, folder: str, data: bytes) -> str:
    """What only a file can get wrong: its folder, fields that have defaults and are not there, or its seal."""
    if f"{manifest.table}/{manifest.key}" != folder:
        return f"it was committed as {manifest.table}/{manifest.key}"
    missing = ", ".join(f"usage.{name}" for name in Usage.model_fields if name not in manifest.usage.model_fields_set)
    if missing:
        return f"there is no {missing}"
    whole = manifest.seal is None or is_sealed(data, manifest.seal) or manifest.seal == seal_of(json.loads(data))
    return "" if whole else "it is not what was written: its seal differs"


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose change could change a result."""
    return {name: _version(name) for name in LIBRARIES}


@cache  # a library's whole description is parsed for it
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
