"""Traces of a real server: taken up from a request's `traceparent`, passed on to models, sent over OTLP to a socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sourcebook.testing.llm_server import DIMENSIONS, FakeLLMServer, Reply, stream_of

from .support import CANARY, Served

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
QUESTION = "When does the harbour close?"


class Collector(HTTPServer):
    """Takes OTLP over HTTP. `spans` are all that came; `keys` the credentials that they came with."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.keys: list[str | None] = []
        self.service = ""
        super().__init__(("127.0.0.1", 0), _Taking)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        taken = ExportTraceServiceRequest()
        taken.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
        for resource in taken.resource_spans:
            told = {a.key: a.value.string_value for a in resource.resource.attributes}
            self.server.service = told["service.name"]
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.server.keys.append(self.headers.get("x-collector-key"))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_question_is_one_trace_from_the_client_to_the_model(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector, llm: FakeLLMServer
) -> None:
    overrides = {
        "tracing": {"endpoint": collector.url, "headers": {"x-collector-key": CANARY}, "service": "library"},
        "llms": {"fake": {"use": "openai", "base_url": llm.url, "model": "fake-model"}},
        "embedders": {"fake": {"use": "openai", "base_url": llm.url, "model": "fake", "dimensions": DIMENSIONS}},
        "pipelines": {"model": {"extends": "default", "llm": ["fake"], "embedder": "fake"}},
    }
    before = len(llm.requests)
    with Served(tmp_path_factory.mktemp("traced"), overrides) as server:
        notebook = server.notebook(pipeline="model")
        server.source(notebook)
        llm.script(Reply(stream_of(["The harbour closes at ten in the evening [1]."])))
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        asked = {"question": QUESTION, "notebooks": [notebook]}
        assert server.http.post("/api/v1/chat", json=asked, headers=headers).status_code == 200
        server.http.get("/api/v1/nothing")
        time.sleep(0.1)  # the request's span ends a moment after its last byte
        assert server.book.tracer is not None
        server.book.tracer.flush()
    assert collector.service == "library"
    assert set(collector.keys) == {CANARY}
    ours = {span.span_id.hex(): span for span in collector.spans if span.trace_id.hex() == TRACE}
    names = {span.name: span for span in ours.values()}
    request, run, chat = names["POST /api/v1/chat"], names["run model"], names["chat fake-model"]
    assert request.parent_span_id.hex() == PARENT
    assert run.parent_span_id == request.span_id
    assert chat.parent_span_id == run.span_id
    told = {a.key: a.value for a in request.attributes}
    assert (told["http.route"].string_value, told["http.response.status_code"].int_value) == ("/api/v1/chat", 200)
    sent = [r for r in llm.requests[before:] if r.headers.get("traceparent")]
    to_model = next(r for r in sent if r.path.endswith("/chat/completions"))
    assert to_model.headers["traceparent"] == f"00-{TRACE}-{chat.span_id.hex()}-01"
    to_embedder = [r.headers["traceparent"].split("-") for r in sent if r.path.endswith("/embeddings")]
    assert any(trace == TRACE and ours[span].name == "embeddings fake" for _, trace, span, _ in to_embedder)
    other = {span.name for span in collector.spans if span.trace_id.hex() != TRACE}
    assert {"GET", "job ingest", "parsing", "parsers.parse markdown"} <= {name.removesuffix(" ?") for name in other}
    whole = "".join(str(span) for span in collector.spans)
    assert QUESTION not in whole
    assert "harbour" not in whole.lower()
    assert CANARY not in whole


def test_a_collector_that_is_away_holds_nothing_up(tmp_path_factory: pytest.TempPathFactory) -> None:
    overrides = {"tracing": {"endpoint": "http://127.0.0.1:9/v1/traces", "timeout": 0.2}}
    with Served(tmp_path_factory.mktemp("away"), overrides) as server:
        notebook = server.notebook()
        server.source(notebook)
        answer = server.http.post("/api/v1/chat", json={"question": QUESTION, "notebooks": [notebook]})
        assert answer.status_code == 200
