"""The table that `make bench` ends with, and the training step that it compares, on any machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench import lake, table, training
from bench.unrolled import unrolled
from scot_core.combiner import Combiner
from scot_core.lake import Lake
from scot_core.losses import scot_loss
from scot_core.query import query


def test_rows_are_written_down_and_shown_with_what_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.row("nobody", "asks", 1.0)  # a script that is run by itself
    monkeypatch.setenv(table.ROWS, str(tmp_path / "rows"))
    table.row("a step", "a loop", 1.5, 1.4, machine="here")
    table.row("a slow step", "a loop", 0.5, 1.0, machine="here")
    table.row("a command", "1 s", 0.7, 1.0, machine="here", bound=0.75, by="`import it`")
    table.row("something", "to be known", 3.0, machine="here")
    table.not_measured("a step on a GPU", "a loop", "no CUDA device", 2.0)
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    head, *lines = table.shown(rows)
    assert head.split() == ["what", "against", "ratio", "goal", "machine"]
    assert [" ".join(line.split()) for line in lines[:4]] == [
        "a step a loop 1.50 x 1.40 x reached here",
        "a slow step a loop 0.50 x 1.00 x missed here",
        "a command 1 s 0.70 x 1.00 x missed; 0.75 x by `import it` alone here",
        "something to be known 3.00 x - here",
    ]
    assert " ".join(lines[4].split()).startswith("a step on a GPU a loop - 2.00 x no CUDA device ")


def test_every_way_of_a_step_runs_and_its_products_are_counted() -> None:
    torch.manual_seed(0)
    sizes = training.Sizes(dim=8, projection=16, hidden=12, batch=4)
    for step in training.ways_of(sizes, "cpu").values():
        assert torch.isfinite(torch.as_tensor(step()))
    # forward, and gradients of weights and of what comes in, but for the two projections' inputs
    products = [(8, 16), (8, 16), (32, 12), (32, 12), (12, 8), (12, 1)]
    expected = sum(2 * 4 * a * b * (2 if (a, b) == (8, 16) else 3) for a, b in products)
    assert sizes.flop == expected
    loss = 4 * 4 * 8 * 4  # scores of the batch's modified captions and captions, and what passes back
    assert sum(2 * a * b * c for a, b, c in sizes.products) == expected + 2 * loss
    training.bare(sizes)()


def test_the_step_called_by_hand_computes_what_the_combiner_does() -> None:
    torch.manual_seed(0)
    sizes = training.Sizes(dim=8, projection=16, hidden=12, batch=4)
    model = Combiner(sizes.dim, sizes.projection, sizes.hidden, dropout=0.0)
    data = training.vectors(9, sizes.dim, "cpu")
    torch.manual_seed(1)
    loss = unrolled(model, data, sizes.batch, dropped=0, step=False)()
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    torch.manual_seed(1)
    rows = torch.randint(9, (sizes.batch,))
    image, text, target, caption = (table[rows] for table in data)
    expected = scot_loss(model(image, text), target, caption)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, list(torch.autograd.grad(expected, list(model.parameters()))))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    training.by_hand(sizes)()
    unrolled(model, data, sizes.batch)()
    assert not any(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_the_questions_of_the_readme_are_answered_over_a_lake_made_of_links(tmp_path: Path) -> None:
    place = Lake(tmp_path)
    for name in ("triplets", "rejects", "adapters", "replies", "benchmarks"):
        lake.stretched(place, lake.committed(place, name, "generate", 5), 3)
    first, *others = (query(place, question) for question in lake.questions())
    (known,) = first.to_pylist()
    (read,) = query(place, "select count(*)::int as n, avg(length(modification)) as mean from triplets").to_pylist()
    assert read["n"] == 15 and list(known.values()) == ["generate", 15, read["mean"]]
    assert len(others) == 4
