"""A few pictures of a benchmark as files beside the report, for those who want to search and have none at hand."""

from __future__ import annotations

from typing import Final

from scot_core.lake import Lake

FOLDER: Final = "pictures"
_FEW: Final = 5


def leave_pictures(lake: Lake) -> None:
    """Write the first pictures of the newest benchmark that has its own (table `galleries`) into `pictures/`.

    Files that are there are left as they are; where the lake holds no such benchmark, nothing is written.
    """
    drawn = lake.table("galleries").matching()
    if not drawn or lake.storage.names(FOLDER):
        return
    for row in drawn[-1].read_part(0, ["image"]).slice(0, _FEW).to_pylist():
        lake.storage.write(f"{FOLDER}/{row['image']['path']}", row["image"]["bytes"])
