"""Which readers a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from scot_core.captions.abo import Abo
from scot_core.captions.coco import Coco
from scot_core.captions.flickr30k import Flickr30k
from scot_core.captions.folder import Folder
from scot_core.captions.reader import Reader
from scot_core.config import CaptionsConfig
from scot_core.errors import ConfigError, DataError


def readers_of(config: CaptionsConfig) -> list[Reader]:
    """One reader, or the paper's three; none for the catalogue, which is drawn.

    Raises ConfigError where source `folder` has no path.
    """
    if config.source == "folder":
        if config.path is None:
            raise ConfigError("captions.source is folder, but captions.path names no table of (image, caption)")
        return [Folder(config.path, config.folder)]
    published: dict[str, Callable[[], Reader]] = {
        "coco": lambda: Coco(config.coco),
        "flickr30k": lambda: Flickr30k(config.flickr30k),
        "abo": lambda: Abo(config.abo),
    }
    return [make() for source, make in published.items() if config.source in (source, "paper")]


def missing(config: CaptionsConfig) -> list[str]:
    """What the readers lack on this machine, a sentence each; annotations are not read for it."""
    sentences = []
    for reader in readers_of(config):
        for look in (attrgetter("files"), attrgetter("images")):
            try:
                look(reader)
            except DataError as error:
                sentences.append(str(error))
    return sentences
