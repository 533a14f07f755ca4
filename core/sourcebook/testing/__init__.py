"""Contract suites and fakes for plugin authors. The suites need pytest; import them by module.

Subclass a suite in a test module, give it your component, and pytest runs the whole contract on it:

- `sourcebook.testing.parsers`: `ParserContract`, and `parse` and `MemoryFile` to read bytes without a server
- `sourcebook.testing.chunkers`: `ChunkerContract`, and `documents` to cut
- `sourcebook.testing.embedders`: `EmbedderContract`
- `sourcebook.testing.retrievers`: `RetrieverContract`, for retrievers that only search
- `sourcebook.testing.indexes`: `IndexContract`, for retrievers that store
- `sourcebook.testing.rerankers`: `RerankerContract`
- `sourcebook.testing.llms`: `LLMContract`
- `sourcebook.testing.fetchers`: `FetcherContract`
- `sourcebook.testing.blob_stores`: `BlobStoreContract`

`sourcebook.testing.components.opened` opens any component as the server would; `sourcebook.testing.llm_server` holds
`FakeLLMServer`, a scripted OpenAI-compatible server on a real socket, `sourcebook.testing.fakes` an embedder without a
model, and `sourcebook.testing.in_process` a whole Sourcebook without a server. pytest has them as fixtures wherever
Sourcebook is installed (`sourcebook.testing.pytest_plugin`). `sourcebook plugins check` runs the suites on what is
installed.
"""
