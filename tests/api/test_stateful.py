"""Chains of made-up requests over the whole document: what one answer names, the next asks for, edits and deletes.

A few here; `make proof` takes many more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ensure_resource_availability,
    ignored_auth,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    use_after_free,
)

from .support import Served

DOCUMENT = orjson.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_bytes())
PROOF = bool(os.environ.get("SOURCEBOOK_PROOF"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    use_after_free,
    ensure_resource_availability,
    ignored_auth,
]
# They would ask the internet, or lock the tester out, or stay open: streams of events have tests of their own.
LEFT_OUT = r"/url$|/refresh$|/keys|/notebooks/[^/]+/events$|/jobs/[^/]+/events$"


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("tried"), {"server": {"max_body": 65536}}) as server:
        server.key("root", "admin")
        yield server


# The server's workers, in a thread beside, use `random` for their pauses: to Hypothesis that looks like the strategy.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
@pytest.mark.timeout(1800 if PROOF else 120)
def test_no_chain_of_requests_gets_what_was_not_promised(tried: Served) -> None:
    headers = tried.key("zoe", "read", "write", "admin")
    schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path_regex=LEFT_OUT)
    answers: dict[int, int] = {}
    broken: list[BaseException] = []

    def chains(number: int) -> Any:
        class Chains(schema.as_state_machine()):  # type: ignore[misc]
            def get_call_kwargs(self, case: Any) -> dict[str, Any]:
                return {"base_url": tried.url, "headers": headers}

            def validate_response(self, response: Any, case: Any, **_: Any) -> None:
                answers[response.status_code] = answers.get(response.status_code, 0) + 1
                try:
                    case.validate_response(response, checks=CHECKS, headers=headers)
                except BaseException as error:
                    broken.append(error)
                    raise

        Chains.__name__ = f"Chains{number}"  # what is made up hangs on the name
        return Chains

    for number in range(20 if PROOF else 1):
        # The server remembers, so that a chain that begins as an earlier one may go on otherwise: Hypothesis calls that
        # flaky, and stops. No answer is wrong for it, and one that was is in `broken`.
        with suppress(FlakyStrategyDefinition):
            chains(number).run(
                settings=settings(
                    max_examples=10 if PROOF else 6,
                    stateful_step_count=15 if PROOF else 8,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
            )
        assert not broken, broken
    assert sum(answers.values()) > (500 if PROOF else 10), answers
    assert {200, 422} <= set(answers), answers  # it gets in, and it is refused
