"""What the README says of the house is read off the house."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
HOUSE = README[README.index("## The house") :]


def test_the_way_of_a_caption_is_under_1500_lines() -> None:
    listed = HOUSE[HOUSE.index("Read these, in this order") : HOUSE.index("CONTRIBUTING.md")]
    files = re.findall(r"`([a-z_/]+\.py)`", listed)
    assert len(files) == len(set(files)) > 10
    assert sum(len((ROOT / name).read_text().splitlines()) for name in files) < 1500


def test_the_tree_names_every_room() -> None:
    tree = HOUSE[: HOUSE.index("What happens to one caption")]
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))} - {"lake", "data"}
    inside = {path.name for path in (ROOT / "scot_core").iterdir() if path.suffix == ".py" or path.is_dir()}
    named = set(re.findall(r"[a-z_]+(?:\.py|/)", tree))
    for room in {name for name in rooms if not name.startswith(".")} | {n for n in inside if not n.startswith("__")}:
        assert room in named or f"{room}/" in named, f"README's tree does not name {room}"


def test_what_is_said_of_the_papers_stands_in_the_evidence() -> None:
    said = README[README.index("## What holds of the papers here") : README.index("## The command line")]
    written = (ROOT / "docs" / "evidence.md").read_text()
    evidence = "".join(re.findall(r"<!-- begin: .*?<!-- end: ", written, re.S))  # by the command, not by hand
    differences = re.findall(r"[+-]\d+\.\d \([+-]\d+\.\d to [+-]\d+\.\d\)", said)
    assert len(differences) > 15
    for difference in differences:
        assert difference in evidence, f"no study found {difference}"
    around = r"\d+\.\d \(\d+\.\d-\d+\.\d\)"
    for interval in re.findall(around, said):
        assert interval in evidence, f"no study found {interval}"
    for value in re.findall(r"(?<![§\d.])\d+\.\d", re.sub(around, "", said)):
        assert f"{value} (" in evidence or value in " ".join(differences), f"no study found {value}"
