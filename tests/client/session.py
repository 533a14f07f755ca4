"""A whole session with a client that was generated from the OpenAPI document: run by `test_client.py`, in its venv.

python session.py FOLDER_OF_THE_CLIENT URL KEY
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import Any


def call(tag: str, operation: str) -> Any:
    """The generated function that gives status, headers and the parsed answer."""
    return import_module(f"generated.api.{tag}.{operation}").sync_detailed


def main(folder: str, url: str, key: str) -> None:
    """Make, upload, ask, edit, share, delete; every answer has to be of the model that the document promises."""
    sys.path.insert(0, folder)
    models, client_module = import_module("generated.models"), import_module("generated.client")
    client = client_module.AuthenticatedClient(base_url=url, token=key, timeout=60)
    anybody = client_module.Client(base_url=url)

    ready = call("server", "readyz")(client=anybody)
    assert ready.status_code == 200, ready

    new = models.NewNotebook(title="Generated")
    made = call("notebooks", "create_notebook")(client=client, body=new)
    assert (made.status_code, type(made.parsed)) == (201, models.NotebookShown), made
    notebook = made.parsed

    text = models.NewText(
        name="harbour.md", text="# Harbour\n\nThe harbour closes at ten in the evening.", tags=["tide"]
    )
    added = call("sources", "add_text")(notebook.id, client=client, body=text)
    assert (added.status_code, type(added.parsed)) == (202, models.SourceShown), added
    for _ in range(600):
        source = call("sources", "get_source")(added.parsed.id, client=client).parsed
        if source.state in ("ready", "failed"):
            break
        time.sleep(0.1)
    assert (source.state, source.tags) == ("ready", ["tide"]), source

    asked = models.NewSearch(question="When does the harbour close?", notebooks=[notebook.id])
    found = call("answers", "search")(client=client, body=asked).parsed
    assert found.items[0].source_id == source.id
    passage = call("sources", "get_passage")(found.items[0].passage_id, client=client).parsed
    assert passage.text == found.items[0].text

    question = models.NewChat(question="When does the harbour close?", notebooks=[notebook.id], stream=False)
    answer = call("answers", "chat")(client=client, body=question).parsed
    assert isinstance(answer, models.ChatAnswer), answer
    assert "ten in the evening" in answer.text
    conversation = call("conversations", "get_conversation")(answer.conversation_id, client=client).parsed
    assert [m.role for m in conversation.messages] == ["user", "assistant"]

    changes = models.NotebookChanges(title="Renamed")
    version = made.headers["etag"]
    edited = call("notebooks", "edit_notebook")(notebook.id, client=client, body=changes, if_match=version)
    assert (edited.parsed.title, edited.parsed.version) == ("Renamed", 2)
    refused = call("notebooks", "edit_notebook")(notebook.id, client=client, body=changes, if_match=version)
    assert (refused.status_code, refused.parsed.code) == (412, "edited_meanwhile")

    listed: list[str] = []
    cursor: Any = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = call("notebooks", "list_notebooks")(client=client, limit=1, **more).parsed
        listed += [n.id for n in page.items]
        cursor = page.next_cursor
        if not cursor:
            break
    assert notebook.id in listed

    missing = call("notebooks", "get_notebook")("nb_none", client=client)
    assert (missing.status_code, missing.parsed.code) == (404, "not_found")
    assert call("notebooks", "delete_notebook")(notebook.id, client=client).status_code == 204
    assert call("sources", "get_source")(source.id, client=client).status_code == 404
    print("the session passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
