"""What Prefect's forms offer, explain and refuse before anything runs. No server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prefect import Flow
from prefect.exceptions import ParameterTypeError

from flows.benchmark import benchmark
from flows.captions import captions
from flows.distill import distill
from flows.embed import embed
from flows.finetune import finetune
from flows.fit import fit
from flows.generate import generate
from flows.invert import invert
from flows.methods import methods
from flows.regenerate import regenerate
from flows.seed import seed
from flows.study import study
from flows.train import train
from scot_core.config import PROFILES, STAGES, Config
from scot_core.errors import ConfigError

FLOWS: list[Flow[..., Any]] = [
    captions, invert, distill, seed, finetune, generate, fit, embed, train, benchmark, methods, study, regenerate,
]  # fmt: skip


def form(flow: Flow[..., Any]) -> dict[str, Any]:
    """The JSON schema that the server checks parameters with, and draws the form from."""
    return flow.parameters.model_dump_for_openapi()


def unexplained(schema: Any, path: str = "") -> Iterator[str]:
    """Properties without a description, nested ones too."""
    if isinstance(schema, dict):
        for name, inner in schema.items():
            if name == "properties":
                yield from (f"{path}.{field}" for field, shape in inner.items() if not shape.get("description"))
            yield from unexplained(inner, f"{path}.{name}")
    elif isinstance(schema, list):
        for inner in schema:
            yield from unexplained(inner, path)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.fn.__name__)
def test_every_field_of_every_form_is_explained(flow: Flow[..., Any]) -> None:
    assert list(unexplained(form(flow))) == []


def test_a_regeneration_calls_the_stages_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[str] = []

    class Stages:
        keys: tuple[str, ...] = ()
        ran: tuple[object, ...] = ()
        cached = True

        def __init__(self, *_: object, **__: object) -> None: ...

        def __call__(self, stage: Flow[..., Any], config: Config, **inputs: Any) -> dict[str, str]:
            called.extend([stage.fn.__name__, *({"benchmark"} & set(inputs))])  # follows training, in its flow
            return defaultdict(str)

        def ended(self) -> None: ...

    monkeypatch.setattr("flows.regenerate.Stages", Stages)
    regenerate.fn("smoke", lake=str(tmp_path / "lake"))
    assert called == list(PROFILES["smoke"].stages)
    for asked, left_out in (("distill.method=searle", {"fit"}), ("embed.encoder=fitted", {"invert", "distill"})):
        called.clear()
        regenerate.fn("smoke", [asked], lake=str(tmp_path / "lake"))
        assert called == [stage for stage in STAGES if stage not in left_out]


def test_profiles_and_stages_are_choices() -> None:
    properties = form(regenerate)["properties"]
    assert properties["profile_name"]["enum"] == list(PROFILES)
    assert [choice.get("enum") for choice in properties["until"]["anyOf"]] == [list(STAGES), None]


@pytest.mark.parametrize(
    "parameters",
    [
        {"profile_name": "smokey"},
        {"profile_name": ""},
        {"until": "party"},
        {"where": "everywhere"},
        {"overrides": "train.steps=3"},
    ],
)
def test_the_server_refuses_what_is_no_choice(parameters: dict[str, Any]) -> None:
    jsonschema.validate({"profile_name": "smoke", "until": "seed"}, form(regenerate))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(parameters, form(regenerate))


@pytest.mark.parametrize(
    ("flow", "parameters", "word"),
    [
        (regenerate, {"profile_name": "smokey"}, "the profiles are smoke"),
        (regenerate, {"until": "party"}, "the stages are captions"),
        (captions, {"config": {"queries_per_split": 40, "gallery": 400}}, "at least 720"),
        (seed, {"config": {"max_usd": 3, "endpoint": {"model": "unheard-of"}}}, "usd_per_million_prompt"),
        (train, {"config": {"stepz": 3}}, "stepz"),
    ],
)
def test_a_run_refuses_its_parameters_before_it_starts(
    flow: Flow[..., Any], parameters: dict[str, Any], word: str
) -> None:
    with pytest.raises((ConfigError, ParameterTypeError), match=word):
        flow.validate_parameters(parameters)
