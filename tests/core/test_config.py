"""Configurations: overrides, what is refused, and which fields are part of a dataset's identity."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from scot_core.catalogue.queries import make
from scot_core.config import (
    EXECUTION,
    PROFILES,
    STAGES,
    CaptionsConfig,
    Config,
    EndpointConfig,
    Pipeline,
    PublishedConfig,
    last_stage,
    profile,
    validated,
    with_overrides,
)
from scot_core.config.training import GROUNDED
from scot_core.errors import ConfigError, DataError
from scot_core.lake.fingerprint import canonical_json

CATALOGUE = profile("catalogue").asking_for("distill")


def _fields(model: Config, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool, Any]]:
    """Path, whether it is marked as execution only, and another value of every field, nested ones too."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, Config):
            yield from _fields(value, (*path, name))
            continue
        extra = field.json_schema_extra
        other = _other(value, field.annotation)
        if other != value:
            yield (*path, name), isinstance(extra, dict) and bool(extra.get(EXECUTION)), other


def _other(value: Any, annotation: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.1
    if isinstance(value, tuple):
        first = value[0] if value else "a folder"
        return (*value, 7 if isinstance(first, int) else {"generated": "seed"}.get(first, "fashioniq"))
    choices = [choice for inner in (annotation, *get_args(annotation)) for choice in get_args(inner)]
    choices = [choice for choice in choices if isinstance(choice, str)]
    if choices:
        return next((choice for choice in choices if choice != value), value)
    return f"{value}x" if isinstance(value, str) or str in get_args(annotation) else 1


def _changed(pipeline: Pipeline, path: tuple[str, ...], value: Any) -> Pipeline:
    content = pipeline.model_dump()
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return validated(Pipeline, content)


def _using(path: tuple[str, ...]) -> Pipeline:
    """The catalogue's profile, with the source of captions, server, writer or loss that looks at a setting."""
    if path[:2] == ("generate", "endpoint") and path[-1] != "base_url":
        return with_overrides(CATALOGUE, ["generate.endpoint.base_url=http://127.0.0.1:1/v1"])
    if path in (("generate", "edits_per_caption"), ("generate", "held_out")):
        return with_overrides(CATALOGUE, ["generate.writer=mined"])
    if path[:3] == ("invert", "phrases", "endpoint") and path[-1] != "base_url":
        return with_overrides(CATALOGUE, ["invert.phrases.endpoint.base_url=http://127.0.0.1:1/v1"])
    if path[0] == "train" and path[1] in GROUNDED:
        return with_overrides(CATALOGUE, ["train.loss=scot-grounded"])
    if path == ("distill", "noise"):
        return with_overrides(CATALOGUE, ["distill.method=lincir"])
    source = "coco" if path == ("captions", "captions_per_image") else path[1]
    others = path[0] == "captions" and source in ("folder", "coco", "flickr30k", "abo")
    return with_overrides(CATALOGUE, [f"captions.source={source}"]) if others else CATALOGUE


FIELDS = list(_fields(CATALOGUE))


@pytest.mark.parametrize(("path", "execution", "value"), FIELDS, ids=[".".join(path) for path, *_ in FIELDS])
def test_fields_change_the_identity_unless_they_only_say_how(
    path: tuple[str, ...], execution: bool, value: Any
) -> None:
    base = _using(path)
    changed = _changed(base, path, value)
    assert changed != base
    for stage in STAGES:
        before, after = (canonical_json(getattr(p, stage).identity()) for p in (base, changed))
        assert (before != after) == (stage == path[0] and not execution)


def test_the_walk_over_the_fields_meets_both_kinds() -> None:
    marked = {".".join(path) for path, execution, _ in FIELDS if execution}
    assert {"seed.endpoint.concurrency", "seed.endpoint.timeout_s", "seed.max_usd", "train.checkpoint_every"} <= marked
    assert {"seed.prompt", "seed.endpoint.model", "generate.seed", "train.seeds"}.isdisjoint(marked)
    assert len(FIELDS) > 50


def test_an_endpoint_is_known_by_its_name_else_by_its_address() -> None:
    named, moved = (EndpointConfig(name="gpt-4", base_url=url, model="m") for url in ("https://a/v1", "https://b/v1"))
    assert named.identity() == moved.identity()
    first, second = (EndpointConfig(base_url=url, model="m") for url in ("https://a/v1", "https://b/v1"))
    assert first.identity() != second.identity()
    assert first.identity() == EndpointConfig(base_url="https://a/v1/", model="m").identity()


@pytest.mark.parametrize("url", ["https://me:canary@a/v1", "https://canary@a/v1", "https://a/v1?key=canary"])
def test_an_address_holds_no_secret_since_manifests_show_it(url: str) -> None:
    for stage in ("seed", "generate"):
        with pytest.raises(ConfigError, match=r"base_url.*SCOT_API_KEY") as refused:
            with_overrides(CATALOGUE, [f"{stage}.endpoint.base_url={url}"])
        assert "canary" not in str(refused.value)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_survives_json_and_has_a_canonical_identity(name: str) -> None:
    pipeline = profile(name)
    assert validated(Pipeline, json.loads(pipeline.model_dump_json())) == pipeline
    assert canonical_json(pipeline.identity())


def test_configurations_are_frozen_and_know_their_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        CATALOGUE.train.steps = 3
    with pytest.raises(ConfigError, match=r"train\.stepz: Extra inputs are not permitted"):
        validated(Pipeline, {"train": {"stepz": 3}})
    with pytest.raises(ConfigError, match=r"seed\.endpoint\.modell.*not permitted"):
        validated(Pipeline, {"seed": {"endpoint": {"model": "m", "modell": "m"}}})


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no profile 'huge'; the profiles are smoke, catalogue, paper"):
        profile("huge")


# ------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.steps=300", ("train", "steps"), 300),
        (" train.steps =300", ("train", "steps"), 300),
        ("train.learning_rate=3e-4", ("train", "learning_rate"), 3e-4),
        ("train.loss=infonce", ("train", "loss"), "infonce"),
        ("train.seeds=3,4,5", ("train", "seeds"), (3, 4, 5)),
        ("train.seeds=[3, 4]", ("train", "seeds"), (3, 4)),
        ("train.seeds=7", ("train", "seeds"), (7,)),
        ("seed.endpoint.model=gpt-4", ("seed", "endpoint", "model"), "gpt-4"),
        ("seed.endpoint.name=null", ("seed", "endpoint", "name"), None),
        ("seed.max_usd=2.5", ("seed", "max_usd"), 2.5),
        ("seed.prompt=Answer in JSON, a=b, 1, 2", ("seed", "prompt"), "Answer in JSON, a=b, 1, 2"),
        ("seed.prompt=1,2", ("seed", "prompt"), "1,2"),
        ("seed.prompt=", ("seed", "prompt"), ""),
        ("benchmark.names=fashioniq,circo", ("benchmark", "names"), ("fashioniq", "circo")),
    ],
)
def test_an_override_sets_one_value(override: str, path: tuple[str, ...], value: Any) -> None:
    assert with_overrides(CATALOGUE, [override]) == _changed(CATALOGUE, path, value)


def test_overrides_add_up_and_the_last_one_counts() -> None:
    changed = with_overrides(CATALOGUE, ["train.steps=1", "seed.count=5", "train.steps=2"])
    assert (changed.train.steps, changed.seed.count) == (2, 5)
    assert with_overrides(CATALOGUE, []) == CATALOGUE


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps", r"'train\.steps' is not of the form stage\.key=value"),
        ("nostage.steps=1", r"there is no 'nostage'; there is: captions, invert, distill, seed"),
        ("train.stepz=1", r"there is no setting 'train\.stepz'; there is: loss"),
        ("train=1", r"there is no setting 'train'"),
        ("steps=1", r"there is no setting 'steps'"),
        ("seed.endpoint=1", r"there is no setting 'seed\.endpoint'"),
        ("seed.endpoint.model.name=1", r"there is no 'seed\.endpoint\.model'"),
        (".=1", r"there is no ''"),
        ("=", r"there is no setting ''"),
        ("train.steps=many", r"train\.steps: Input should be a valid integer.*'many'"),
        ("train.steps=1.5", r"train\.steps: Input should be a valid integer"),
        ("train.steps=0", r"train\.steps: Input should be greater than 0"),
        ("train.steps=none", r"train\.steps: Input should be a valid integer"),
        ("train.dropout=2", r"train\.dropout: Input should be less than or equal to 1"),
        ("train.alpha_pos=nan", r"train\.alpha_pos: Input should be a finite number"),
        ("train.learning_rate=inf", r"train\.learning_rate: Input should be a finite number"),
        ("train.seeds=1,--2", r"train\.seeds\.1: Input should be a valid integer"),
        ("train.seeds=1,²", r"train\.seeds\.1: Input should be a valid integer"),
        ("train.seeds=1,-2", r"train\.seeds\.1: Input should be greater than or equal to 0"),
        ("train.seeds=", r"train\.seeds: Tuple should have at least 1 item"),
        ("captions.source=flickr", r"captions\.source: Input should be 'catalogue'"),
    ],
)
def test_an_override_that_does_not_fit_says_where_and_why(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_overrides(CATALOGUE, [override])


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"train\.steps.*embed\.shard_rows|embed\.shard_rows.*train\.steps"):
        with_overrides(CATALOGUE, ["train.steps=x", "embed.shard_rows=-1"])


# ------------------------------------------------------------------------------------- what fits and is explained


@pytest.mark.parametrize("queries", [1, 2, 40])
def test_a_gallery_that_is_too_small_is_refused_as_the_benchmark_would(queries: int) -> None:
    enough = 18 * queries
    assert len(make(queries, enough).queries) == 3 * queries
    CaptionsConfig(queries_per_split=queries, gallery=enough)
    with pytest.raises(DataError):
        make(queries, enough - 1)
    with pytest.raises(ConfigError, match=f"at least {enough} images"):
        CaptionsConfig(queries_per_split=queries, gallery=enough - 1)
    CaptionsConfig(source="coco", queries_per_split=queries, gallery=enough - 1)  # not a setting of this source
    with pytest.raises(ConfigError, match=f"at least {enough} images"):
        with_overrides(CATALOGUE, [f"captions.queries_per_split={queries}", f"captions.gallery={enough - 1}"])


def _models(model: type[Config]) -> Iterator[type[Config]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            yield from _models(field.annotation)


@pytest.mark.parametrize("model", [*_models(Pipeline), PublishedConfig], ids=lambda model: model.__name__)
def test_every_field_has_a_help_text(model: type[Config]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_stages_that_are_asked_for_bring_what_they_need() -> None:
    plain = profile("catalogue")
    assert plain.asking_for("train") is plain and plain.invert is None
    assert plain.asking_for("invert").stages == ("captions", "invert", *plain.stages[1:])
    assert plain.asking_for("distill").stages == ("captions", "invert", "distill", *plain.stages[1:])
    for method in ("pic2word", "lincir"):  # these learn without pseudo-tokens
        asked = with_overrides(plain, [f"distill.method={method}"])
        assert asked.invert is None and asked.distill is not None
    assert with_overrides(plain, ["distill.images=100"]).invert is not None
    assert last_stage(None, "paper-searle") == "distill" and last_stage("embed", "paper-searle") == "embed"
    with pytest.raises(ConfigError, match="reads pseudo-tokens"):
        with_overrides(plain, ["embed.encoder=fitted", "invert.steps=3"])
