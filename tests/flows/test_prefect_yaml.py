"""prefect.yaml against the flows and pools it names; no server."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.flows import load_flow_from_entrypoint

from deployments.agreed import POOLS
from deployments.set_up import main
from scot_core.config import STAGES
from tests.flows.conftest import ROOT

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: str(deployment["name"]))
def test_a_deployment_fits_its_flow(deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    flow: Flow[..., State] = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    assert flow.name == "scot"
    parameters = deployment.get("parameters", {})
    assert set(parameters) <= set(flow.parameters.properties)
    if parameters or not flow.parameters.required:  # whoever runs `scot/benchmark` must name one
        flow.validate_parameters(parameters)
    assert deployment["work_pool"]["name"] in POOLS


def test_every_stage_has_a_deployment_and_no_name_is_given_twice() -> None:
    names = [deployment["name"] for deployment in DEPLOYMENTS]
    assert len(set(names)) == len(names)
    assert {*STAGES, "regenerate"} <= set(names)


@pytest.mark.parametrize("words", [["deploy"], ["--deploy", "more"], ["--help"]])
def test_setting_up_begins_with_nothing_where_it_is_asked_otherwise(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.set_up.pools", pytest.fail)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == (0 if words == ["--help"] else 2)
