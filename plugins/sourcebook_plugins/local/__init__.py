"""Models that run in this process, from a folder on this machine: nothing is ever fetched.

onnx.py                   the embedder `onnx`: onnxruntime and tokenizers on an exported model (extra `onnx`)
cross_encoder.py          the reranker `cross_encoder`, on the same two libraries (extra `onnx`)
fastembed.py              the embedder `fastembed` (extra `fastembed`)
sentence_transformers.py  the embedder `sentence_transformers` (extra `sentence-transformers`; brings torch)
models.py                 what they share: the folder, its fingerprint, the work in a thread
"""

from __future__ import annotations

from typing import Any

from sourcebook import Embedder, Reranker, hookimpl


@hookimpl
def register_embedders() -> list[type[Embedder[Any]]]:
    """Those that embed in this process."""
    from sourcebook_plugins.local.fastembed import FastEmbedEmbedder
    from sourcebook_plugins.local.onnx import OnnxEmbedder
    from sourcebook_plugins.local.sentence_transformers import SentenceTransformersEmbedder

    return [OnnxEmbedder, FastEmbedEmbedder, SentenceTransformersEmbedder]


@hookimpl
def register_rerankers() -> list[type[Reranker[Any]]]:
    """The one that reranks in this process."""
    from sourcebook_plugins.local.cross_encoder import CrossEncoder

    return [CrossEncoder]
