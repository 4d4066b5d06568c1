"""What every source of captioned images offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from scot_core.captions.directory import Directory
from scot_core.captions.entries import Entry, Refused
from scot_core.config import PublishedPairs
from scot_core.config.settings import settings
from scot_core.errors import DataError


class Reader(ABC):
    """Streams the entries of one source. Image ids begin with the source's name: sources share datasets."""

    source: str
    place: Directory
    count: int | None  # pairs to draw, None all

    @property
    @abstractmethod
    def files(self) -> Sequence[str]:
        """The annotation files, relative to `place`, in the order they are read. Raises DataError without any."""

    @abstractmethod
    def entries(self) -> Iterator[Entry | Refused]:
        """Every entry of the annotation files. Raises DataError for a file that cannot be read to its end."""

    def pictures(self) -> Iterator[tuple[str, str]]:
        """(image id, path) of images, for sources whose entries do not say the path."""
        return iter(())

    @property
    def images(self) -> Directory:
        """What image paths are relative to. Raises DataError where there is no such folder."""
        return self.place

    def digests(self) -> dict[str, str]:
        """The digest of each annotation file: what is read, wherever it lies."""
        return {name: self.place.digest(name) for name in self.files}

    @staticmethod
    def published(source: str, config: PublishedPairs) -> Directory:
        """Where a published source lies."""
        return Directory.at(config.root or f"{settings().data.rstrip('/')}/{source}", f"captions.{source}.root")

    def _need(self, present: bool, what: str, advice: str) -> None:
        if not present:
            raise DataError(f"{what} is missing; {self.place.setting} must name {advice}")
