"""The report of a small lake whose steps are the real ones wherever they are cheap."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scot_core.catalogue.drawing import draw_png
from scot_core.catalogue.grammar import teach
from scot_core.catalogue.language import caption, mentioned
from scot_core.catalogue.queries import make
from scot_core.catalogue.stored import gallery_rows
from scot_core.catalogue.world import Product, sample
from scot_core.config import BenchmarkConfig, CaptionsConfig, EmbedConfig, TrainConfig
from scot_core.errors import LakeError
from scot_core.lake import Dataset, Identity, Lake, Usage
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.schema import pair_id
from scot_core.report import diagram, write_report
from scot_core.report.gallery import choose, note
from scot_core.report.lineage import trace
from scot_core.report.pictures import leave_pictures
from scot_core.report.results import Results, headline
from scot_core.report.samples import Piece, compare, reasons
from scot_core.stages import recipes
from scot_core.stages.captions.catalogue import draw_captions, draw_gallery
from scot_core.stages.recipes import CaptionedImages
from scot_core.stages.replies.read import ReadReplies, reply_columns
from scot_core.triplets import json_reply, local_completion
from tests.running import run_here

HOSTILE = '<script>alert("reply")</script>'
WORLD = CaptionsConfig(count=40, queries_per_split=4, gallery=72, image_size=32)


def draw(lake: Lake, config: CaptionsConfig) -> CaptionedImages:
    """What the stage draws, in this process."""
    captions = draw_captions(lake, config).drafts["captions"]
    galleries = draw_gallery(lake, config).drafts["galleries"]
    rng = random.Random(config.seed)
    products = [sample(rng, "seen") for _ in range(config.count)]
    ids = [f"product-{i:06d}" for i in range(config.count)]
    texts = [caption(product, mentioned(rng), rng.getrandbits(30)) for product in products]
    captions.write_part(
        0,
        {
            "pair_id": [pair_id("catalogue", i, text) for i, text in zip(ids, texts, strict=True)],
            "source": ["catalogue"] * config.count,
            "image_id": ids,
            "caption": texts,
            "image": [_image(product, i, config) for i, product in enumerate(products)],
        },
    )
    drawn = make(config.queries_per_split, config.gallery)
    rows = list(gallery_rows("test", drawn))
    galleries.write_part(
        0,
        {
            "source": ["catalogue"] * len(rows),
            "image_id": [row[0] for row in rows],
            **{name: [columns[name] for _, _, columns in rows] for name in ("draw", "role", "shows", "query")},
            "image": [_image(product, place, config) for place, (_, product, _) in enumerate(rows)],
        },
    )
    usage = Usage(seconds=1.0)
    return CaptionedImages(
        captions=captions.commit(1, rows_in=config.count, usage=usage),
        galleries=galleries.commit(1, rows_in=len(rows), usage=usage),
    )


def _image(product: Product, seed: int, config: CaptionsConfig) -> dict[str, Any]:
    return {"bytes": draw_png(product, config.image_size, seed), "path": None}


def replies(lake: Lake, stage: str, attempt: int, texts: dict[str, str], inputs: Sequence[Dataset]) -> Dataset:
    """A dataset of `replies`, one text for each pair id."""
    identity = fingerprint("written", attempt, {"stage": stage}, [d.fingerprint for d in inputs])
    draft = lake.draft(Identity("replies", "catalogue", stage, identity, {}, [d.reference for d in inputs]))
    model = "teacher" if stage == "seed" else "falcon"
    costs = {"prompt_tokens": 100, "completion_tokens": 20, "usd": 0.5 if stage == "seed" else 0.0}
    said = {"source": "catalogue", "seed": 0, "finish_reason": "stop", **costs}
    rows = [{"pair_id": pair, "text": text, **said} for pair, text in texts.items()]
    draft.write_part(0, reply_columns(rows, stage.split("-")[0], model, attempt))
    count = len(rows)
    return draft.commit(
        1,
        rows_in=count,
        usage=Usage(seconds=2.0, prompt_tokens=100 * count, completion_tokens=20 * count, usd=costs["usd"] * count),
    )


def adapter(lake: Lake, captions: Dataset, seeds: Dataset) -> Dataset:
    config = {"base": "falcon", "held_out": 8, "rank": 16, "steps": 2, "batch_size": 4}
    inputs = [captions, seeds]
    identity = fingerprint("finetune", 1, config, [d.fingerprint for d in inputs])
    draft = lake.draft(Identity("adapters", "catalogue", "finetune", identity, config, [d.reference for d in inputs]))
    rows = [("before", 0, "share_parsed", 12.5), ("after", 0, "share_parsed", 97.5)]
    rows += [("train", step, "loss", 3.0 / step) for step in (1, 2)]
    columns = dict(zip(("phase", "step", "metric", "value"), map(list, zip(*rows, strict=True)), strict=True))
    draft.write_part(0, {"source": ["catalogue"] * len(rows), **columns})
    return draft.commit(1, rows_in=len(rows), usage=Usage(seconds=4.0))


def written(lake: Lake, captions: Dataset) -> Dataset:
    """Seeds, an adapter, two tries of generation with rejects in both; returns the generated triplets."""
    rng = random.Random(5)
    rows = captions.read(["pair_id", "caption"]).to_pylist()
    taught = {row["pair_id"]: teach(row["caption"], rng) for row in rows}
    pairs = list(taught)
    said = {pair: json_reply(*taught[pair]) for pair in pairs[:20]} | {pairs[0]: HOSTILE}
    asked = replies(lake, "seed", 1, said, [captions])
    seeds = run_here(ReadReplies(lake, "seed", "seed", "json", captions, [asked]))["triplets"]
    tuned = adapter(lake, captions, seeds)
    lines = {pair: local_completion(*taught[pair]) for pair in pairs}
    first = replies(lake, "generate", 1, lines | dict.fromkeys(pairs[:6], HOSTILE), [captions, tuned])
    second = replies(
        lake, "generate-try2", 2, dict.fromkeys(pairs[:2], HOSTILE) | {pair: lines[pair] for pair in pairs[2:6]},
        [captions, tuned, first],
    )  # fmt: skip
    return run_here(ReadReplies(lake, "generate", "generated", "lines", captions, [first, second]))["triplets"]


def build(folder: Path, world: CaptionsConfig, train: TrainConfig) -> Lake:
    lake = Lake(folder)
    pictures = draw(lake, world)
    triplets = written(lake, pictures.captions)
    vectors = recipes.embed(run_here, lake, EmbedConfig(), pictures, triplets)
    combiners = recipes.train(run_here, lake, train, triplets, vectors)
    recipes.benchmark(run_here, lake, BenchmarkConfig(resamples=20), combiners, triplets, vectors)
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    train = TrainConfig(projection_dim=16, hidden_dim=16, steps=20, batch_size=16, seeds=(3, 4))
    return build(tmp_path_factory.mktemp("lake"), WORLD, train)


@pytest.fixture(scope="module")
def page(lake: Lake) -> str:
    return Path(write_report(lake)).read_text()


class Links(HTMLParser):
    """What a page points to, and its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_page_carries_everything_itself(page: str) -> None:
    links = Links(page)
    assert all(target.startswith(("data:image/", "#")) for target in links.targets)
    assert links.tags.count("img") == 8 * 6 + 12 + 3  # gallery, triplets, plots
    assert "script" not in links.tags and "link" not in links.tags and "url(http" not in page
    assert len(page.encode()) < 3_000_000


def test_page_shows_the_rows_of_the_lake(lake: Lake, page: str) -> None:
    rows = lake.table("benchmarks").latest().read().to_pylist()
    assert headline(Results(rows, "scot")) in page.replace("&#39;", "'")
    for row in rows:
        if row["metric"] == "R@1" or row["split"] == "all":
            assert f"{row['value']:.1f}<small>{row['low']:.1f} \u2013 {row['high']:.1f}</small>" in page
    for dataset in lake.datasets():
        assert dataset.key in page
    assert ">97.5<" in page  # the language model after tuning
    assert "$10.00" in page  # 20 seed replies at 0.50
    assert "the mean of 2 Combiners" in page.replace("\n", " ") and "Combiner of seed 3" in page.replace("\n", " ")


def test_what_models_said_is_escaped(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;alert(&#34;reply&#34;)" in page


def test_report_is_kept_until_something_changes(lake: Lake, page: str) -> None:
    path, copy = Path(write_report(lake)), Path(lake.url) / "report.html"
    assert path == Path(lake.url) / "reports" / f"{lake.table('benchmarks').latest().key}.html"
    assert copy.read_text() == page
    before = path.stat().st_mtime_ns
    copy.unlink()
    write_report(lake)
    assert path.stat().st_mtime_ns == before and copy.read_text() == page
    path.write_text("another version's")
    write_report(lake)
    assert path.read_text() == page  # the same bytes again


def test_pages_of_methods_and_studies_are_linked_where_they_are(lake: Lake, page: str) -> None:
    lake.storage.write("studies.html", b"studies")
    try:
        path = Path(write_report(lake))
        (target,) = {target for target in Links(path.read_text()).targets if target.endswith(".html")}
        assert (path.parent / target).read_text() == "studies"
        (copied,) = {
            target for target in Links((Path(lake.url) / "report.html").read_text()).targets if "html" in target
        }
        assert (Path(lake.url) / copied).read_text() == "studies"
    finally:
        lake.storage.remove("studies.html")
    assert Path(write_report(lake)).read_text() == page


def test_kept_report_loads_nothing_heavy(lake: Lake, page: str) -> None:
    program = (
        "import sys; from scot_core.lake import Lake; from scot_core.report import write_report;"
        "write_report(Lake(sys.argv[1])); print([m for m in ('torch', 'matplotlib', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, lake.url], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_few_pictures_are_left_as_files_once(local_lake: Lake) -> None:
    leave_pictures(local_lake)
    assert not local_lake.storage.names("pictures")
    run_here(draw_gallery(local_lake, WORLD))
    leave_pictures(local_lake)
    left = Path(local_lake.url) / "pictures" / "reference-000000.png"
    with Image.open(left) as picture:
        assert picture.size == (32, 32)
    left.write_bytes(b"a person's own")
    leave_pictures(local_lake)
    assert left.read_bytes() == b"a person's own"


def test_empty_lake_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="run `scot run` first"):
        write_report(Lake(tmp_path))


def test_lineage_holds_all_inputs_and_counts_work_once(lake: Lake) -> None:
    lineage = trace(lake, lake.table("benchmarks").latest())
    assert {d.name for d in lineage.datasets} == {d.name for d in lake.datasets()}
    shared = lake.table("captions").latest().usage.seconds  # one step wrote galleries and captions
    rejects = sum(d.usage.seconds for d in lake.table("rejects").datasets())
    everything = sum(d.usage.seconds for d in lake.datasets())
    assert lineage.seconds == pytest.approx(everything - shared - rejects)


# ------------------------------------------------------------------------------------- the result in words


def rows(values: dict[str, Sequence[float]], splits: Sequence[str] = ("seen", "type", "all")) -> list[dict[str, Any]]:
    sizes = {"benchmark": "catalogue", "queries": 900, "seeds": 3, "metric": "R@1"}
    return [
        {"method": method, "split": split, "value": value, "low": value - 2, "high": value + 2, **sizes}
        for method, listed in values.items()
        for split, value in zip(splits, listed, strict=True)
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"image-only": (9, 9, 2), "image+text, weight 0.55": (1, 1, 49.8), "scot": (60, 55.5, 58.2)},
            "SCOT finds a right image first for 58.2 % of 900 queries (95 % interval 56.2 to 60.2), 8.4 points above "
            "the best baseline (image+text, weight 0.55, 49.8 %); weakest on split type (55.5 %).",
        ),
        (
            {"image-only": (9, 9, 40), "infonce": (30, 50, 35)},
            "InfoNCE finds a right image first for 35.0 % of 900 queries (95 % interval 33.0 to 37.0), 5.0 points "
            "below the best baseline (image-only, 40.0 %); weakest on split seen (30.0 %).",
        ),
    ],
)
def test_headline_says_what_the_rows_say(values: dict[str, Sequence[float]], expected: str) -> None:
    assert headline(Results(rows(values), list(values)[-1])).replace("\u00a0", " ") == expected


def test_headline_of_a_tie_and_one_split() -> None:
    text = headline(Results(rows({"image-only": (40.02,), "scot": (40.0,)}, ["all"]), "scot")).replace("\u00a0", " ")
    assert text.endswith("level with the best baseline (image-only, 40.0 %).")


# ----------------------------------------------------------------------------------------- choosing, saying

QUERIES = make(4, 72).queries


@given(st.lists(st.sampled_from([None, 1, 2, 30]), min_size=12, max_size=12), st.integers(3, 12))
@settings(max_examples=50, deadline=None)
def test_chosen_queries_come_from_all_splits_with_a_failure(first_right: list[int | None], count: int) -> None:
    chosen, added = choose(QUERIES, first_right, count)
    assert len(set(chosen)) == count
    assert len({QUERIES[place].split for place in chosen}) >= (2 if added else 3)
    assert any(first_right[place] != 1 for place in chosen) == any(first != 1 for first in first_right)
    untouched, _ = choose(QUERIES, [2] * 12, count)
    assert len(set(chosen) - set(untouched)) == int(added)


def test_note_names_what_is_wrong() -> None:
    query = QUERIES[0]
    other = {a: next(v for v in ("white", "wood") if v != getattr(query.target, a)) for a in ("background",)}
    assert note(query, query.target, True) == "right"
    assert note(query, query.reference, False) == "reference unchanged"
    assert note(query, query.target.replace(**other), False) == "wrong background"


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
@settings(max_examples=50, deadline=None)
def test_compared_texts_lose_no_word(before: list[str], after: list[str]) -> None:
    for words, pieces in zip((before, after), compare(" ".join(before), " ".join(after)), strict=True):
        assert " ".join(piece.text for piece in pieces).split() == words
    if before == after:
        assert not any(piece.changed for pieces in compare(" ".join(before), " ".join(after)) for piece in pieces)


def test_compare_marks_the_words_that_differ() -> None:
    before, after = compare("a small red mug", "a blue mug on wood")
    assert before == [Piece("a", False), Piece("small red", True), Piece("mug", False)]
    assert after == [Piece("a", False), Piece("blue", True), Piece("mug", False), Piece("on wood", True)]


def test_reasons_are_counted_and_shown_short() -> None:
    given_rows = [{"reason": "length", "raw": "x" * 500}, *[{"reason": "identical", "raw": "one\ntwo"}] * 2]
    first, second = reasons(given_rows)
    assert (first.name, first.count, first.raw) == ("identical", 2, "one ⏎ two")
    assert (second.name, second.count) == ("length", 1) and len(second.raw) < 150


# ------------------------------------------------------------------------------------------------ diagram


@given(st.lists(st.sets(st.integers(0, 30), max_size=3), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_boxes_never_overlap_and_inputs_stand_left(graph: list[set[int]]) -> None:
    edges = {str(n): [str(i) for i in sorted(inputs) if i < n] for n, inputs in enumerate(graph)}
    drawn = diagram.draw(edges)
    place = {box.name: (box.x, box.y) for box in drawn.boxes}
    assert len(set(place.values())) == len(edges)
    assert all(place[start][0] < place[end][0] for end, starts in edges.items() for start in starts)
    assert all(0 <= x <= drawn.width and 0 <= y <= drawn.height for x, y in place.values())


def test_arrows_that_follow_from_others_are_left_out() -> None:
    drawn = diagram.draw({"a": [], "b": ["a"], "c": ["a", "b"], "side": ["a"], "d": ["a", "c", "side"]})
    assert len(drawn.arrows) == 5  # a-b, b-c, c-d, a-side, side-d
    lanes = {box.name: box.y for box in drawn.boxes}
    assert lanes["a"] == lanes["b"] == lanes["c"] == lanes["d"] < lanes["side"]
