"""How Sourcebook's points look in Qdrant. Payloads and filters are built here and nowhere else, in Qdrant's REST JSON.

Payload: `owner`, `notebook`, `index_spec`, the three together as `scope`, `source`, `generation`, `language`,
`analyzer`, and the filter fields below `f` (`f.year`). Never text. The point's id is the passage's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sourcebook.interfaces import Point, Scope

SPARSE = "bm25"
"""The name of the sparse vector that every point has."""

TENANT = "owner"
KEYWORDS = (TENANT, "scope", "source", "generation", "analyzer")
"""The payload fields with a keyword index."""

# The languages for which Qdrant's BM25 has both a stemmer and stop words. A document in one of them is indexed with its
# own, which is worth two points of nDCG@10 on German questions and three on Arabic ones (XQuAD, 240 passages); for
# Chinese and Japanese the multilingual tokenizer alone does better than with their stop words.
STEMMED = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nb": "norwegian",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "tr": "turkish",
}


def vector_name(space: str, dimensions: int) -> str:
    """A space's vector on the point. Two models may call their spaces alike: their sizes keep them apart."""
    return f"{space}:{dimensions}"


def analyzer(tokenizer: str, default: str, language: str = "") -> str:
    """How a text becomes terms, as stored with each point: `multilingual/german`.

    A query is cut once per analyzer that the searched points have, so documents in several languages, or indexed under
    earlier settings, are all searched with the terms that they were indexed with. `language` is a tag like `de-AT`.
    """
    primary = language.lower().replace("_", "-").split("-")[0]
    return f"{tokenizer}/{STEMMED.get(primary, default)}"


def payload(point: Point, how: str) -> dict[str, Any]:
    """What is stored with a point; `how` is its analyzer."""
    stored: dict[str, Any] = {
        "owner": point.owner_id,
        "notebook": point.notebook_id,
        "index_spec": point.index_spec_id,
        "scope": _scope(point.owner_id, point.notebook_id, point.index_spec_id),
        "source": point.source_id,
        "generation": point.generation_id,
        "language": point.language,
        "analyzer": how,
    }
    return stored | ({"f": dict(point.fields)} if point.fields else {})


def scope_filter(scope: Scope, sources: Sequence[str] | None = None, generation: str | None = None) -> dict[str, Any]:
    """Points of any notebook of `scope` under the index spec that it pinned, narrowed to sources and a generation.

    Raises `ValueError` for an empty scope: to Qdrant, no condition at all means every point.
    """
    if not scope.notebooks:
        raise ValueError("An empty scope has no filter: it finds nothing.")
    # One condition on the three ids together: a search over everything that an owner has is half as long as with three.
    must = [_any("scope", [_scope(n.owner_id, n.notebook_id, n.index_spec_id) for n in scope.notebooks])]
    if sources is not None:
        must.append(_any("source", sources))
    if generation is not None:
        must.append(_any("generation", [generation]))
    return {"must": must}


def corpus_filter(scope: Scope) -> dict[str, Any]:
    """The points over which a term's rarity is counted: all of the scope's owners, and nobody else's.

    So nobody's ranking depends on, or tells about, what others have stored. (The scope itself would be narrower, and
    costs several times as much to count.)
    """
    return {"must": [_any("owner", sorted({n.owner_id for n in scope.notebooks}))]}


def _scope(*ids: str) -> str:
    # As JSON, so that no two triples of ids look alike, whatever characters an owner's id has.
    return json.dumps(ids, ensure_ascii=False, separators=(",", ":"))


def _any(key: str, values: Sequence[str]) -> dict[str, Any]:
    return {"key": key, "match": {"any": list(values)}}
