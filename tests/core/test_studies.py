"""Studies: a grid of settings in, Combiners and scores of a lake of their own out, and what was found in a sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from scot_core.catalogue.held_out import pairs
from scot_core.catalogue.world import Product, split_of
from scot_core.config import GenerateConfig, TrainConfig, profile, with_overrides
from scot_core.errors import ConfigError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.lending import lend
from scot_core.report.grids import grid_plot
from scot_core.report.studies import markdown, put_into, splits_of, write_studies
from scot_core.report.weighed import WEIGHTS, at_weights
from scot_core.stages.captions.catalogue import captioned
from scot_core.stages.generate.joined import joined
from scot_core.stages.lessons import TEXTS, lessons
from scot_core.stages.methods.cached import reuse
from scot_core.stages.methods.table import Cell as Value
from scot_core.stages.pictured import asked_for, draw_targets
from scot_core.stages.step import Committed, Work
from scot_core.studies import STUDIES, Cell, Study
from scot_core.studies.findings import FEWEST, Findings, Row, findings, keep, kept
from scot_core.studies.measure import left, measure, plans, studies_of
from scot_core.studies.spec import TEXT_WEIGHT, grid
from scot_core.training_set import Gathered, TrainingSet
from tests.running import run_here
from tests.shapes import captioned as captioned_pictures

# without a language model, and with a Combiner that three steps train
TINY = (
    "captions.count=150", "captions.queries_per_split=4", "captions.gallery=90", "generate.writer=mined",
    "train.steps=3", "train.projection_dim=8", "train.hidden_dim=8", "train.batch_size=16", "train.seeds=0,1",
)  # fmt: skip
SMALL = Study(
    name="small", question="Does a margin matter?", place="§3.3", against="margin 0.2", minutes=1, profile="smoke",
    cells=(*grid("train.margin", (0.2, 0.6)), *grid("train.count", (20, 10**6), also=("train.margin=0.2",))),
)  # fmt: skip


@pytest.mark.parametrize("one", STUDIES.values(), ids=list(STUDIES))
def test_every_cell_of_every_study_is_a_configuration_of_its_own(one: Study) -> None:
    names = [cell.name for cell in one.cells]
    assert len(set(names)) == len(names) and one.against in names
    for cell, pipeline in plans(one, one.profile, []):
        assert pipeline == with_overrides(profile(one.profile), [*one.settings, *cell.settings])
        assert cell.panel and cell.settings


def test_what_a_study_varies_cannot_be_fixed() -> None:
    with pytest.raises(ConfigError, match=r"varies train\.margin"):
        list(plans(SMALL, "smoke", ["train.margin=0.3"]))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, list[str]]:
    """A lake whose study was stopped at its third Combiner, and then run again; the second run's work, by name."""
    lake, trained = Lake(tmp_path_factory.mktemp("studies") / "lake"), 0

    def until_the_third(work: Work) -> Committed:
        nonlocal trained
        trained += work.stage == "train"
        if trained == 3:
            raise KeyboardInterrupt
        return run_here(work)

    lake.check_writable()
    with pytest.raises(KeyboardInterrupt):
        measure(until_the_third, lake, SMALL, "smoke", TINY)
    worked: list[str] = []

    def again(work: Work) -> Committed:
        worked.append(work.name)
        return run_here(work)

    measure(again, lake, SMALL, "smoke", TINY)
    return lake, worked


def test_a_study_that_was_stopped_goes_on_and_is_then_cached(stopped: tuple[Lake, list[str]]) -> None:
    lake, worked = stopped
    assert [name for name in worked if "train" in name] == ["count 20: train the Combiner (scot)"]
    told: list[tuple[str, bool]] = []
    done, left_out = measure(reuse, lake, SMALL, "smoke", TINY, lambda cell, cached: told.append((cell.name, cached)))
    assert told == [("margin 0.2", True), ("margin 0.6", True), ("count 20", True)]
    assert [one.cell.name for one in left_out] == ["count 1000000"] and "is more than the" in left_out[0].why
    assert set(done[0].scores) == {"catalogue"}
    assert left(lake, SMALL, "smoke", TINY) == 1
    assert not lake.datasets()  # `scot search` takes the newest Combiner of the lake itself


def test_findings_are_kept_and_their_table_takes_the_place_of_the_one_before(stopped: tuple[Lake, list[str]]) -> None:
    lake, _ = stopped
    found = findings(lake, SMALL, "smoke", TINY, *measure(reuse, lake, SMALL, "smoke", TINY))
    assert [one.benchmark for one in found] == ["catalogue"]
    for one in found:
        keep(lake, one)
        assert [row.name for row in one.own] == ["margin 0.2", "margin 0.6", "count 20"]
        assert [row.runs for row in one.own] == [2, 2, 2]
        assert [row.panel for row in one.rows if not row.own] == [""]  # the tuned sum is the same for all
    assert kept(lake) == found
    for one in found:
        sums = [
            replace(row, panel="count", x=str(n)) for n, row in enumerate(one.rows) for _ in range(2) if not row.own
        ]
        twice = replace(one, rows=(*one.own, *sums))
        assert [name for name, _ in twice.listed] == [
            *(row.name for row in one.own),
            f"{sums[0].name}, and beside 1 more",
        ]
    keep(lake, replace(found[0], note="Of what `make worlds` & others put there."))
    page = Path(write_studies(lake)).read_text()
    assert "studies" in page and "Of what <code>make worlds</code> &amp; others put there." in page
    few = replace(found[0], queries=dict.fromkeys(found[0].queries, 19))
    assert "<svg" in grid_plot(replace(few, by="kind")), "no split is left for the axis"
    assert splits_of(few) == ["all"] and len(splits_of(replace(few, queries=dict.fromkeys(few.queries, 20)))) > 3
    once = put_into("# Evidence\n", found[0])
    assert put_into(once, found[0]) == once
    both = put_into(once, replace(found[0], study="other"))
    why = "encoder x: weights of y are not on this machine; `get them --into /a/folder`"
    left_out = replace(found[0], left_out=(("encoder x", why),))
    assert "\nLeft out: encoder x (weights of y are not on this machine).\n" in markdown(left_out)
    assert put_into(both, found[0]) == both and both.count("<!-- begin") == 2


def test_a_study_of_folders_wants_pictures_that_lie_in_some(tmp_path: Path) -> None:
    def never(work: Work) -> Committed:
        raise AssertionError(work.name)

    with pytest.raises(ConfigError, match="`make worlds` writes one with such folders"):
        measure(never, Lake(tmp_path / "lake"), STUDIES["domain"], "smoke", ())
    table = captioned_pictures(tmp_path / "photos")
    settings = ["captions.source=folder", f"captions.path={table}", "generate.writer=mined"]
    with pytest.raises(
        ConfigError, match=r"train\.folders names catalogue, fluent, noto, .*: its folders are pictures"
    ):
        measure(never, Lake(tmp_path / "lake"), STUDIES["domain"], "smoke", settings)


def test_what_the_lake_holds_is_lent_and_not_made_again(stopped: tuple[Lake, list[str]]) -> None:
    first = studies_of(stopped[0])
    done, _ = measure(reuse, first, SMALL, "smoke", TINY)
    second = studies_of(first)
    assert {dataset.name for dataset in second.datasets()} == {dataset.name for dataset in first.datasets()}
    weights = done[0].combiners
    assert weights.lake_url == second.url and weights.files
    for path in weights.paths:
        assert Path(second.storage.path(path)).samefile(first.storage.path(path))
    elsewhere = Lake(f"memory://{first.storage.root}")
    assert lend(weights, first, elsewhere).manifest == weights.manifest
    elsewhere.storage.remove("")


def test_weights_of_the_text_are_told_by_what_an_edit_does(stopped: tuple[Lake, list[str]], tmp_path: Path) -> None:
    lake, _ = stopped
    weights = replace(SMALL, name="weights", cells=SMALL.cells[:2], methods=(), metric=TEXT_WEIGHT, by="kind")
    measured = measure(run_here, lake, weights, "smoke", TINY)
    (found,) = findings(lake, weights, "smoke", TINY, *measured)
    assert found.metric == TEXT_WEIGHT and "highest for" not in found.sentence, "of a kind there are a few queries"
    found = replace(found, queries=dict.fromkeys(found.queries, FEWEST))
    assert "highest for kind: " in found.sentence
    assert all(0 < value.value < 100 for row in found.rows for value in row.values.values())
    keep(lake, found)
    shown = at_weights(lake)
    assert shown is not None and {one.kind for one in shown.examples} == {
        split.removeprefix("kind: ") for split in found.queries if split.startswith("kind: ")
    }
    assert all(0 < one.modality_weight < 1 and len(one.hits) == len(WEIGHTS) for one in shown.examples)
    page = Path(write_studies(lake)).read_text()
    assert "weights on catalogue" in page and page.count('alt="first image"') == len(shown.examples) * len(WEIGHTS)
    assert all(f"<td>{recall:.1f}</td>" in page for recall in shown.recalls)
    poorer = Lake(shutil.copytree(lake.url, tmp_path / "poorer"))
    shutil.rmtree(f"{studies_of(poorer).url}/galleries")
    page = Path(write_studies(poorer)).read_text()
    assert "weights on catalogue" in page and "first image" not in page


def test_a_cell_is_measured_by_what_it_made_itself(stopped: tuple[Lake, list[str]]) -> None:
    lake, _ = stopped
    fixed = ("distill.method=lincir", "distill.seeds=0", "train.margin=0.2")
    cells = (Cell("steps", str(n), (*fixed, f"distill.steps={n}"), "", "lincir") for n in (1, 2))
    inverted = replace(SMALL, name="inverted", cells=tuple(cells), against="steps 1")
    for _ in range(2):  # the second time, both are there
        done, _ = measure(run_here, lake, inverted, "smoke", TINY)
        own = [one.scores["catalogue"][""] for one in done]
        made = [next(one for one in scores.inputs if one.table == "inverters") for scores in own]
        steps = [studies_of(lake).table("inverters").latest(key=one.key).config["steps"] for one in made]
        assert steps == [1, 2]


def test_triplets_that_are_drawn_are_part_of_those_of_a_larger_draw(stopped: tuple[Lake, list[str]]) -> None:
    vectors = torch.eye(6)
    there = Gathered(vectors, torch.arange(6))
    every = TrainingSet(there, there, there, vectors)
    (written,) = studies_of(stopped[0]).table("triplets").datasets()
    drawn = {count: lessons(every, TrainConfig(count=count), written) for count in (2, 4, 6)}
    rows = {count: one.image[:].argmax(1).tolist() for count, one in drawn.items()}
    assert rows[2] == rows[4][:2] and rows[4] == rows[6][:4] and sorted(rows[6]) == list(range(6))
    for one in drawn.values():
        assert torch.equal(one.image[:], one.modified_caption[:])
    assert lessons(every, TrainConfig(), written) is every


def test_settings_that_came_later_are_in_no_key_at_their_default() -> None:
    assert "count" not in TrainConfig().identity() and TrainConfig(count=5).identity()["count"] == 5
    assert GenerateConfig(sources=("seed", "mined")).identity() == GenerateConfig().identity()


def test_several_sources_are_one_dataset(
    stopped: tuple[Lake, list[str]], tmp_path: Path, triplets: Callable[..., dict[str, Any]],
    identify: Callable[..., Identity], commit: Callable[..., Dataset],
) -> None:  # fmt: skip
    lake, (mined,) = Lake(tmp_path), studies_of(stopped[0]).table("triplets").datasets()
    assert joined(run_here, lake, [mined, mined]) is mined
    other = commit(lake, identify(source="catalogue"), triplets(3, source="catalogue"))
    both = joined(run_here, lake, [mined, other])
    assert both.rows == mined.rows + 3 and both.inputs == (mined.reference, other.reference)
    assert both.read(["modification"])["modification"].to_pylist()[-3:] == ["make it blue"] * 3


def _row(margin: str, value: float, *difference: float) -> Row:
    told = {"all": Value(value, value - 1, value + 1, *difference)}
    return Row("margin", "", margin, f"margin {margin}", True, not any(difference), (), 5, told)


def test_the_sentence_says_what_the_numbers_carry() -> None:
    rows = (
        _row("0.2", 80.0, 0.0, 0.0, 0.0), _row("0.1", 81.0, 1.0, -0.5, 2.5),
        _row("0.4", 84.0, 4.0, 3.0, 5.0), _row("0.5", 82.0, 2.0, 0.5, 3.5), _row("0.9", 60.0, -20.0, -22.0, -18.0),
    )  # fmt: skip
    found = Findings(
        "margin", "How wide?", "§3.3", "", "catalogue", "R@1", "", "margin 0.2", "smoke", (), {"all": 12}, rows, (),
        "here", datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    assert found.sentence == (
        "R@1 over all queries is 80.0 (79.0-81.0) at margin 0.2; 2 of 4 are better, most margin 0.4 (+4.0 (+3.0 "
        "to +5.0) points); 1 of 4 is worse, most margin 0.9 (-20.0 (-22.0 to -18.0) points); 1 is not told "
        "apart from it."
    )
    assert found.sentence in markdown(found)
    assert [row.decided for row in rows] == [False, False, True, True, True]


def _taught(count: int = 8) -> TrainingSet:
    """Images along the axes; text i is nearest to image i, and is not it."""
    images, texts = torch.eye(count), torch.nn.functional.normalize(torch.eye(count) + 0.1)
    rows = torch.arange(count)
    return TrainingSet(Gathered(images, rows), *(Gathered(texts, rows) for _ in range(3)))


def test_targets_are_texts_or_the_nearest_images_or_both(stopped: tuple[Lake, list[str]]) -> None:
    (written,) = studies_of(stopped[0]).table("triplets").datasets()
    every = _taught()
    retrieved = lessons(every, TrainConfig(targets="retrieved"), written)
    assert torch.equal(retrieved.modified_caption[:], every.image[:])
    both = lessons(every, TrainConfig(targets="both"), written)
    assert torch.equal(both.modified_caption[:], torch.cat([every.modified_caption[:], every.image[:]]))
    assert torch.equal(both.image[:], torch.cat([every.image[:], every.image[:]]))
    few = lessons(every, TrainConfig(targets="retrieved", corpus=2), written)
    assert len({tuple(row) for row in few.modified_caption[:].tolist()}) == 2


def test_wrong_triplets_have_the_target_of_another_and_more_of_them_hold_the_fewer(
    stopped: tuple[Lake, list[str]],
) -> None:
    (written,) = studies_of(stopped[0]).table("triplets").datasets()
    every, before = _taught(), set[int]()
    for share in (0.25, 0.5, 1.0):
        taught = lessons(every, TrainConfig(wrong=share), written)
        moved = (taught.modified_caption[:].argmax(1) != torch.arange(8)).nonzero().flatten().tolist()
        assert len(moved) == 8 * share and before <= set(moved)
        assert sorted(taught.modified_caption[:].argmax(1).tolist()) == list(range(8))
        before = set(moved)


def test_what_shows_a_pair_that_is_held_out_is_not_learned_from(stopped: tuple[Lake, list[str]]) -> None:
    (written,) = studies_of(stopped[0]).table("triplets").datasets()
    columns = written.read(list(TEXTS)).to_pydict()
    shown = [pairs(*texts) for texts in zip(*columns.values(), strict=True)]
    count, before = written.rows, set(range(written.rows))
    for share in (0.1, 0.3, 0.6):
        left_over = set(lessons(_taught(count), TrainConfig(held_out=share), written).image[:].argmax(1).tolist())
        seen = set().union(*(shown[row] for row in left_over))
        lost = set().union(*shown) - seen
        assert left_over < before and all(shown[row] & lost for row in set(range(count)) - left_over)
        before = left_over


def test_triplets_of_some_folders_are_learned_from_alone(
    tmp_path: Path, triplets: Callable[..., dict[str, Any]], identify: Callable[..., Identity],
    commit: Callable[..., Dataset],
) -> None:  # fmt: skip
    rows = triplets(8) | {"image_id": ["round/0", "rounder/1", "flat/2", "round/a/3", "4", "flat/5", "round/6", "7"]}
    written = commit(Lake(tmp_path), identify(), rows)
    for folders, chosen in ((("round",), [0, 3, 6]), (("round/",), [0, 3, 6]), (("round", "flat"), [0, 2, 3, 5, 6])):
        taught = lessons(_taught(8), TrainConfig(folders=folders), written)
        assert sorted(taught.image[:].argmax(1).tolist()) == chosen
    with pytest.raises(ConfigError, match="leave 2 triplets"):
        lessons(_taught(8), TrainConfig(folders=("flat",), count=3), written)


def test_the_image_of_what_is_asked_for_keeps_the_rest() -> None:
    mug = Product("mug", "red", "plain", "a round handle", "star", "small", "wood")
    assert asked_for(mug, "make it blue", "a blue mug with a star badge") == mug.replace(colour="blue")
    assert asked_for(mug, "remove the star badge", "a red mug") == mug.replace(badge="none")
    assert asked_for(mug, "make it a lamp instead", "a red lamp").type == "lamp"


def test_true_targets_that_show_nothing_held_out_are_drawn_embedded_and_learned_from(
    stopped: tuple[Lake, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def red_too(shown: Product) -> str:
        return "combination" if shown.colour == "red" else split_of(shown)

    monkeypatch.setattr("scot_core.stages.pictured.split_of", red_too)
    lake = studies_of(stopped[0])
    (written,) = lake.table("triplets").datasets()
    images = lake.table("embeddings").latest(stage="embed-images")
    drawn = run_here(draw_targets(lake, written, images))["embeddings"]
    assert drawn.config["spec"] == images.config["spec"]
    drawn_ones = captioned(with_overrides(profile("smoke"), TINY).captions)
    products = {picture.image_id: picture.product for picture in drawn_ones}
    asked = written.read(["image_id", "modification", "modified_caption"]).to_pylist()
    shown = [red_too(asked_for(products[row.pop("image_id")], **row)) for row in asked]
    seen = [row for row, split in enumerate(shown) if split == "seen"]
    assert 0 < len(seen) < written.rows
    numbers = torch.arange(written.rows).float()[:, None].repeat(1, 128)
    every = TrainingSet(numbers, *(torch.zeros(written.rows, 128) for _ in range(3)))
    taught = lessons(every, TrainConfig(targets="true"), written, [drawn])
    assert sorted(taught.image[:][:, 0].tolist()) == seen
    assert torch.allclose(taught.modified_caption[:].norm(dim=1), torch.ones(len(seen)))
