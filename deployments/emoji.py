"""Captioned pictures that nobody drew for Scot: emoji of two npm packages, as a person's own table. `make emoji`.

    python -m deployments.emoji [FOLDER]

Pictures are those of Microsoft's Fluent 3D (npm @lobehub/fluent-emoji-3d, MIT) and of Google's Noto (npm
emoji-datasource-google, MIT; the drawings are Apache-2.0), captions the annotations of OpenMoji (npm openmoji,
CC BY-SA 4.0), joined by code point. All of it is used where it lies, and none of it is part of Scot. Written are

    captions.csv    image, caption
    queries.csv     reference, text, target, kind: what Unicode's own structure says, about captions that are held out

and then the commands run that anyone would run over these tables. Nothing in the library knows where they come from.
"""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scot_core.benchmarks.mined import hold_out
from scot_core.config import GenerateConfig

PACKAGES: Final = ("@lobehub/fluent-emoji-3d@1.1.0", "emoji-datasource-google@16.0.0", "openmoji@17.0.0")
RENDERINGS: Final = {
    "fluent": ("@lobehub/fluent-emoji-3d/assets", ".webp"),
    "noto": ("emoji-datasource-google/img/google/64", ".png"),
}
ANNOTATIONS: Final = "openmoji/data/openmoji.json"
PRESENTATION: Final = "FE0F"  # says that it is a picture, not text; packages differ on where it stands
TONES: Final = ("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF")
GENDERS: Final = {"1F468": "1F469", "1F469": "1F468", "2642": "2640", "2640": "2642"}  # man, woman; the signs
COLOURS: Final = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey", "pink")
MOST: Final = 150  # queries of a kind: as many of each, where there are so many
KINDS: Final = ("tone", "gender", "colour", "other")


@dataclass(frozen=True)
class Emoji:
    """One code point sequence: its caption, its Unicode group and subgroup, and its pictures."""

    points: tuple[str, ...]
    caption: str
    group: str
    subgroup: str
    pictures: tuple[str, ...]

    @property
    def tones(self) -> list[str]:
        return [point for point in self.points if point in TONES]

    @property
    def without_tone(self) -> tuple[str, ...]:
        return tuple(point for point in self.points if point not in TONES)


def fetch(folder: Path) -> Path:
    """Packages by npm; returns where they lie. Exits where there is no npm."""
    modules = folder / "node_modules"
    if all((modules / name.rpartition("@")[0]).is_dir() for name in PACKAGES):
        return modules
    if shutil.which("npm") is None:
        sys.exit("the emoji come by npm, which is not here: install Node.js (nodejs.org), then again")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-save", "--no-audit", "--no-fund"]
    subprocess.run([*command, *PACKAGES], check=True)
    return modules


def read(modules: Path, folder: Path) -> list[Emoji]:
    """The emoji of Fluent with all their pictures, which are copied below the folder."""
    pictures: defaultdict[tuple[str, ...], dict[str, Path]] = defaultdict(dict)
    for rendering, (place, ending) in RENDERINGS.items():
        (folder / rendering).mkdir(parents=True, exist_ok=True)
        for file in sorted((modules / place).glob(f"*{ending}")):
            pictures[_points(file.stem)][f"{rendering}/{file.name}"] = file
    found = []
    for entry in json.loads((modules / ANNOTATIONS).read_bytes()):
        points = _points(entry["hexcode"])
        first = next(iter(pictures[points]), "")
        if first.startswith("fluent/") and entry["group"] != "component" and not entry["group"].startswith("extras"):
            caption = _caption(entry["annotation"], entry["group"])
            for name, file in pictures[points].items():
                put(folder / name, file.read_bytes)
            found.append(Emoji(points, caption, entry["group"], entry["subgroups"], tuple(pictures[points])))
    return found


def put(file: Path, content: Callable[[], bytes]) -> None:
    """Write a picture where there is none, whole or not at all."""
    if not file.exists():
        part = file.with_name(f"{file.name}.part")
        part.write_bytes(content())
        part.replace(file)


def rows(emoji: Sequence[Emoji]) -> list[dict[str, str]]:
    """Of a table of captioned pictures."""
    return [{"image": picture, "caption": each.caption} for each in emoji for picture in each.pictures]


def _points(code: str) -> tuple[str, ...]:
    return tuple(point for point in code.upper().split("-") if point != PRESENTATION)


def _caption(annotation: str, group: str) -> str:
    """`judge: dark skin tone` as people say it."""
    return annotation.replace(": ", " with ", 1) if group == "people-body" else annotation


Pair = tuple[Emoji, Emoji, str]  # reference, target, text


def queries(emoji: Sequence[Emoji]) -> list[dict[str, str]]:
    """Rows of the table of queries: held-out captions are asked for, by up to `MOST` of each kind."""
    settings, rng = GenerateConfig(), random.Random(0)
    pairs = [(picture, each.caption) for each in emoji for picture in each.pictures]
    held = hold_out(pairs, settings.held_out, settings.seed)
    rows = []
    for kind, found in pairs_of(emoji, rng).items():
        unseen = [pair for pair in found if held.holds(pair[1].caption)]
        for reference, target, text in rng.sample(unseen, min(MOST, len(unseen))):
            answers = "|".join(target.pictures)
            rows.append(
                {"reference": rng.choice(reference.pictures), "text": text, "target": answers, "kind": kind}
            )  # fmt: skip
    return rows


def pairs_of(emoji: Sequence[Emoji], rng: random.Random) -> dict[str, list[Pair]]:
    """Every pair of one difference, by what differs."""
    of = {each.points: each for each in emoji}
    found: dict[str, list[Pair]] = {kind: [] for kind in KINDS}
    by_concept: defaultdict[tuple[str, ...], list[Emoji]] = defaultdict(list)
    by_frame: defaultdict[tuple[str | None, ...], list[tuple[Emoji, str]]] = defaultdict(list)
    for each in emoji:
        by_concept[each.without_tone].append(each)
        other = of.get(tuple(GENDERS.get(point, point) for point in each.points))
        if other is not None and other is not each and sum(point in GENDERS for point in each.points) == 1:
            found["gender"].append((each, other, rng.choice(_gendered(other))))
        for start, word in enumerate(words := each.caption.split()):
            by_frame[each.group, *words[:start], None, *words[start + 1 :]].append((each, word.lower()))
    for same in by_concept.values():
        toned = [each for each in same if len(each.tones) == 1]
        found["tone"] += [(a, b, rng.choice(_toned(a, b))) for a in toned for b in toned if a is not b]
    for frame, alike in by_frame.items():
        for (a, old), (b, new) in ((x, y) for x in alike for y in alike if x[1] != y[1]):
            if old in COLOURS and new in COLOURS:
                text = rng.choice([f"in {new}", f"make it {new}", f"{new} instead of {old}"])
                found["colour"].append((a, b, text))
            elif len(frame) > 2 and a.group not in ("people-body", "flags"):
                found["other"].append((a, b, rng.choice([f"{new} instead of {old}", f"change {old} to {new}"])))
    return found


def _gendered(target: Emoji) -> list[str]:
    new, old = ("woman", "man") if {"1F469", "2640"} & {*target.points} else ("man", "woman")
    return [f"a {new} instead of a {old}", f"make it a {new}", f"the same as a {new}"]


def _toned(reference: Emoji, target: Emoji) -> list[str]:
    """The names of tones are taken from the captions."""
    old, new = (_tone(each.caption) for each in (reference, target))
    return [f"{new} skin tone", f"make the skin tone {new}", f"{new} skin tone instead of {old}"]


def _tone(caption: str) -> str:
    match = re.search(r"(\S+) skin tone", caption)
    assert match is not None, caption
    return match.group(1)


def write(path: Path, rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)


def about(emoji: Sequence[Emoji], asked: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """What is in the tables, and how it is balanced."""
    groups = Counter(each.group for each in emoji)
    images, captions = sum(len(each.pictures) for each in emoji), len({each.caption for each in emoji})
    yield f"{images:,} pictures, {captions:,} captions: " + ", ".join(f"{n:,} {g}" for g, n in groups.most_common())
    kinds = Counter(row["kind"] for row in asked)
    balance = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS)
    yield f"People are {groups['people-body'] / len(emoji):.0%} of them, so queries are balanced: {balance}."


def main(folder: Path) -> int:
    emoji = read(fetch(folder / ".packages"), folder)
    asked = queries(emoji)
    write(folder / "captions.csv", rows(emoji), ("image", "caption"))
    write(folder / "queries.csv", asked, ("reference", "text", "target", "kind"))
    print(*about(emoji, asked), sep="\n", flush=True)
    pictures, own = ["--captions", str(folder / "captions.csv")], ["--queries", str(folder / "queries.csv")]
    for command in (
        ["run", *pictures],
        ["benchmark", "own", *own],
        ["run", *pictures, "--set", "train.loss=scot"],  # the paper's, on the same triplets and vectors
        ["benchmark", "own", *own],
    ):
        print(f"\n$ scot {' '.join(command)}", flush=True)
        code = subprocess.run([sys.executable, "-m", "scot.cli", *command], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "emoji")))
