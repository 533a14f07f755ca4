"""What comes and goes below `/v1`. Fields that are not ours are ignored, as clients of that API expect."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sourcebook_api.schemas.answers import Filters, PassageLimit, SearchMode, SourceIds, Weights
from sourcebook_api.schemas.common import Id, Plain, Shown


class Lenient(BaseModel):
    """A body of that API: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


class Part(Lenient):
    """A piece of a message's content."""

    type: str
    text: Annotated[str, Plain] = ""


class ChatMessage(Lenient):
    """A turn. `content` is text, or parts that are text."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[str, Field(max_length=1_000_000), Plain] | list[Part] | None = None

    def text(self) -> str:
        """All of its text."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content if part.type in ("text", "input_text"))
        return self.content or ""


class StreamOptions(Lenient):
    """`include_usage`: one more chunk at the end, with the tokens."""

    include_usage: bool = False


class Extras(Lenient):
    """Ours, in the field `sourcebook`: more notebooks than the model, a choice of sources, how many passages."""

    notebooks: Annotated[list[Id], Field(max_length=100)] = Field(default_factory=list)
    sources: SourceIds | None = None
    filters: Filters | None = None
    limit: PassageLimit | None = None
    mode: SearchMode | None = None
    weights: Weights | None = None


class ChatCompletionRequest(Lenient):
    """A question as OpenAI's clients ask it: the last message of the user, with the turns before it."""

    model: Id
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    reasoning_effort: Annotated[str, Field(max_length=20)] | None = None
    sourcebook: Extras = Extras()

    def options(self) -> dict[str, Any]:
        """What is passed on to the model's server."""
        names = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "reasoning_effort")
        chosen = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.stop:
            chosen["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        if most := self.max_completion_tokens or self.max_tokens:
            chosen["max_tokens"] = most
        return chosen


class EmbeddingsRequest(Lenient):
    """Texts to embed. `model`: a notebook, or an embedder of the configuration. `input_type`: passage or query."""

    model: Id
    input: Annotated[str, Field(min_length=1), Plain] | Annotated[list[Any], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = None
    input_type: Literal["passage", "query"] = "passage"


class ModelShown(Shown):
    """A notebook, as a model. `name` is its title."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "sourcebook"
    name: str
    description: str = ""


class ModelList(Shown):
    """All notebooks that this key may read."""

    object: Literal["list"] = "list"
    data: list[ModelShown]


class ChatCompletion(Shown):
    """A whole answer on OpenAI's wire. `annotations` of the message are its citations."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any]
    sourcebook: dict[str, Any]


class EmbeddingList(Shown):
    """A vector for each text: numbers, or base64 of float32."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    model: str
    usage: dict[str, int]


class OpenAIProblem(Shown):
    """What went wrong; `code` is the same as in the problems of `/api/v1`."""

    message: str
    type: str
    param: str | None = None
    code: str
    request_id: str | None = None


class OpenAIError(Shown):
    """Every error below `/v1`."""

    error: OpenAIProblem
