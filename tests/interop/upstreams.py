"""Real servers of models: litellm's proxy with a scripted answer, `transformers serve` with a tiny model.

Both run from the environment of `make interop`, whose packages are not ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

KEY = "sk-interop-4f1d2c7a9b3e5f60"
ANSWER = "The north lamp of the harbour is green [1]. It is lit at dusk [1]."
_PATIENCE = 240.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def process(log: Path, *command: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A program of ours, ended afterwards."""
    with log.open("wb") as out:
        started = subprocess.Popen(command, stdout=out, stderr=out, cwd=log.parent, env={**os.environ, **(env or {})})
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def until_up(started: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until it answers anything at all."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and started.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"{started.args} did not come up: {log.read_text(errors='replace')[-3000:]}")


@contextlib.contextmanager
def litellm(folder: Path) -> Iterator[str]:
    """The proxy's base URL. Models: `cites`, and `busy`, `broken` that fail before their first token."""
    scripted = {"cites": ANSWER, "busy": "litellm.RateLimitError", "broken": "litellm.InternalServerError"}
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": "x", "mock_response": said}}
        for name, said in scripted.items()
    ]
    config = folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": models}))  # JSON is YAML
    port, log = free_port(), folder / "litellm.log"
    program = str(Path(sys.executable).with_name("litellm"))
    # Nothing is asked of the internet: prices come with the package.
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY}
    arguments = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    with process(log, program, *arguments, env=env) as started:
        until_up(started, f"http://127.0.0.1:{port}/health/liveliness", log)
        yield f"http://127.0.0.1:{port}/v1"


@contextlib.contextmanager
def transformers(folder: Path) -> Iterator[tuple[str, str]]:
    """Base URL and model of a server whose model has random weights: it says nonsense, in the real shape."""
    model = folder / "tiny"
    _make_model(model)
    port, log = free_port(), folder / "transformers.log"
    program = str(Path(sys.executable).with_name("transformers"))
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    with process(log, program, "serve", str(model), "--port", str(port), "--device", "cpu", env=env) as started:
        until_up(started, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1", str(model)


def _make_model(folder: Path) -> None:
    """A byte-level tokenizer and 91,000 random weights."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: n for n, letter in enumerate([*letters, "<s>", "</s>"])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16_384,
        bos_token_id=vocabulary["<s>"],
        eos_token_id=vocabulary["</s>"],
        pad_token_id=vocabulary["</s>"],
    )
    LlamaForCausalLM(config).save_pretrained(folder)
