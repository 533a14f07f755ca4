"""The API's description: kept in the repository, true, and kept to."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from sourcebook.configuration import load
from sourcebook_api.app import create_app
from sourcebook_api.codes import CODES
from sourcebook_api.openapi import render

from .support import Served

PROOF = bool(os.environ.get("SOURCEBOOK_PROOF"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
KEPT = Path(__file__).parents[2] / "docs" / "openapi.json"
DOCUMENT: dict[str, Any] = orjson.loads(KEPT.read_bytes())
OPERATIONS = [(m, p) for p, methods in DOCUMENT["paths"].items() for m in methods]
# Not tried with made-up values: it would ask the internet.
TRIED = [o for o in OPERATIONS if not o[1].endswith("/url")]


@pytest.fixture(scope="module")
def schema() -> Any:
    return schemathesis.openapi.from_dict(DOCUMENT)


def test_the_document_in_the_repository_is_this_versions() -> None:
    now = render(create_app(load(environ={}, overrides={})))
    assert now == KEPT.read_bytes(), "run: python -m sourcebook_api.openapi > docs/openapi.json"


def test_operations_have_short_stable_ids() -> None:
    ids = [DOCUMENT["paths"][p][m]["operationId"] for m, p in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", i) for i in ids)
    assert {"chat", "search", "create_notebook", "upload_sources"} <= set(ids)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_is_described(method: str, path: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    assert operation["description"]
    assert len(operation["tags"]) == 1
    assert bool(operation["security"]) == path.startswith(("/api/", "/v1/", "/metrics"))
    for status, response in operation["responses"].items():
        assert (int(status) >= 400) == ("Problem" in response.get("$ref", ""))
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    assert body is None or body["examples"]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_has_an_example_that_fits_its_schema(method: str, path: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    assert any(s.startswith("2") for s in operation["responses"])
    for status, response in operation["responses"].items():
        for kind, content in response.get("content", {}).items():
            if kind == "application/json" and status.startswith("2"):
                whole = {**content["schema"], "components": DOCUMENT["components"]}
                jsonschema_rs.validator_for(whole).validate(content["example"])
            if kind == "text/event-stream":
                assert content["example"].endswith("\n\n")
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for example in content.get("examples", {}).values():
            whole = {**content["schema"], "components": DOCUMENT["components"]}
            jsonschema_rs.validator_for(whole).validate(example["value"])


def test_every_problem_code_is_listed() -> None:
    listed = {c for r in DOCUMENT["components"]["responses"].values() for c in _examples_of(r)}
    described = {code for status, codes in CODES.items() if status != 405 for code in codes}
    used = {s for ms in DOCUMENT["paths"].values() for o in ms.values() for s in o["responses"]}
    assert listed == {c for c in described if str(_status_of(c)) in used}


def _examples_of(response: Any) -> Any:
    return response["content"].get("application/problem+json", {}).get("examples", {})  # `/v1` has OpenAI's shape


def _status_of(code: str) -> int:
    return next(status for status, codes in CODES.items() if code in codes)


def test_every_reference_leads_somewhere() -> None:
    text = KEPT.read_text(encoding="utf-8")
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
        found = DOCUMENT
        for step in reference.split("/"):
            found = found[step]
    assert "ValidationError" not in text


# The server's workers, in a thread beside, use `random` for their pauses: to Hypothesis that looks like the strategy.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize(("method", "path"), TRIED)
def test_made_up_requests_get_only_the_answers_that_are_promised(
    keyed: Served, schema: Any, method: str, path: str
) -> None:
    headers = keyed.key("zoe", "read", "write", "admin")
    operation = schema[path][method.upper()]

    @settings(
        max_examples=100 if PROOF else 5,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def keeps_its_word(case: Any) -> None:
        answer = case.call(base_url=keyed.url, headers=headers)
        case.validate_response(answer, checks=CHECKS)

    keeps_its_word()
