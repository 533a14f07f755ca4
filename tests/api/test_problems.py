"""Every error has one shape, and tells nothing that it should not."""

from __future__ import annotations

import logging

import pytest

from sourcebook.errors import (
    ConfigError,
    Conflict,
    Forbidden,
    IndexUnavailable,
    LLMError,
    Malformed,
    NotFound,
    QuotaExceeded,
    SourcebookError,
    StoreError,
    TooLarge,
    Unauthenticated,
    UnsupportedType,
)
from sourcebook_api.problems import headers_of, problem_of, status_of

from .support import Served, is_problem


def test_an_unknown_address_is_a_problem(served: Served) -> None:
    is_problem(served.http.get("/api/v1/nothing"), 404, "not_found")
    is_problem(served.http.get("/api/v1/notebooks/"), 404, "not_found")


def test_a_wrong_method_is_a_problem_that_names_the_right_ones(served: Served) -> None:
    answer = served.http.put("/api/v1/notebooks")
    is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


def test_a_body_that_does_not_fit_is_told_by_pointer_and_not_repeated(served: Served) -> None:
    body = {"title": 7, "colour": "swordfish", "metadata": {"a": 1}}
    answer = served.http.post("/api/v1/notebooks", json=body)
    problem = is_problem(answer, 422, "invalid_request")
    assert {(e["in"], e["pointer"]) for e in problem["errors"]} == {("body", "#/title"), ("body", "#/colour")}
    assert "swordfish" not in answer.text


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b'{"title": ', "application/json"), (b"\xff\xfe", "application/json"), (b'{"title": "x"}', "text/plain")],
)
def test_a_body_that_is_no_json_is_a_problem(served: Served, content: bytes, kind: str) -> None:
    answer = served.http.post("/api/v1/notebooks", content=content, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422)
    is_problem(answer, answer.status_code, "bad_request" if answer.status_code == 400 else "invalid_request")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"title": ', "line 1, column 11"),
        (b'{\n  "title": "x",\n  oops\n}', "line 3, column 3"),
        (b'{"title": "x"} {', "line 1, column 16"),
    ],
)
def test_json_that_is_broken_is_told_with_its_place_and_not_with_its_text(
    served: Served, content: bytes, place: str
) -> None:
    answer = served.http.post("/api/v1/notebooks", content=content, headers={"Content-Type": "application/json"})
    (error,) = is_problem(answer, 422, "invalid_request")["errors"]
    assert place in error["detail"]
    assert (error["in"], error["pointer"]) == ("body", "#")
    assert "oops" not in answer.text


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded; charset=utf-8"])
def test_a_body_that_does_not_say_that_it_is_json_is_told_what_to_say(served: Served, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = served.http.post("/api/v1/notebooks", content=b'{"title": "x"}', headers=headers)
    (error,) = is_problem(answer, 422, "invalid_request")["errors"]
    assert "`Content-Type: application/json`" in error["detail"]
    assert (f"`Content-Type: {kind.partition(';')[0]}`" if kind else "no Content-Type") in error["detail"]
    assert (error["pointer"], error["type"]) == ("#", "content_type")


def test_json_of_another_shape_is_not_blamed_on_its_content_type(served: Served) -> None:
    (error,) = is_problem(served.http.post("/api/v1/notebooks", json=[1]), 422, "invalid_request")["errors"]
    assert error["pointer"] == "#"
    assert "Content-Type" not in error["detail"]


@pytest.mark.parametrize(("name", "pointer"), [("a/b~c", "#/a~1b~0c"), ("ü x", "#/%C3%BC%20x")])
def test_a_pointer_is_a_fragment_whatever_the_key(served: Served, name: str, pointer: str) -> None:
    body = f'{{"title": "x", "{name}": 1}}'.encode()
    answer = served.http.post("/api/v1/notebooks", content=body, headers={"Content-Type": "application/json"})
    assert [e["pointer"] for e in is_problem(answer, 422, "invalid_request")["errors"]] == [pointer]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_database_takes_is_refused(served: Served, text: str) -> None:
    escaped = "".join(f"\\u{ord(c):04x}" for c in text)
    for body in (f'{{"title": "{escaped}"}}', f'{{"title": "x", "metadata": {{"a": "{escaped}"}}}}'):
        answer = served.http.post("/api/v1/notebooks", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in ((201, 422) if "metadata" in body and text == "a\0b" else (422,)), answer.text


def test_a_bug_is_told_to_the_log_and_not_to_the_client(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = served.http.get("/api/v1/x/buggy/bug")
    problem = is_problem(answer, 500, "internal")
    assert "swordfish" not in answer.text
    assert "RuntimeError" not in answer.text
    assert any(problem["request_id"] in r.getMessage() and r.exc_info for r in caplog.records)


def test_a_plugins_routes_live_under_its_name(served: Served) -> None:
    assert served.http.get("/api/v1/x/buggy/tells").json() == {"plugin": "buggy"}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("x"), 404),
        (Conflict("x"), 409),
        (TooLarge("x"), 413),
        (QuotaExceeded("x"), 429),
        (Unauthenticated("x"), 401),
        (Forbidden("x"), 403),
        (UnsupportedType("x"), 415),
        (Malformed("x"), 422),
        (LLMError("x", code="llm_truncated"), 502),
        (StoreError("x"), 503),
        (IndexUnavailable("x"), 503),
        (ConfigError("x"), 500),
        (SourcebookError("x"), 500),
    ],
)
def test_every_class_of_error_has_its_status(error: SourcebookError, status: int) -> None:
    assert status_of(error) == status


def test_details_cannot_replace_what_is_standard() -> None:
    problem = problem_of(NotFound("Gone.", status=200, request_id="x", limit=3), "req_1")
    assert (problem["status"], problem["request_id"], problem["limit"]) == (404, "req_1", 3)
    assert problem["upstream_status"] == 200


def test_a_client_is_told_how_to_authenticate_and_when_to_come_back() -> None:
    assert headers_of(Unauthenticated("x"))["WWW-Authenticate"].startswith("Bearer")
    assert headers_of(LLMError("x", retry_after=1.2)) == {"Retry-After": "2"}
