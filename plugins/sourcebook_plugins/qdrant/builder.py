"""Compacts a copy of a shard: `python -m sourcebook_plugins.qdrant.builder SHARD COPY TUNING`.

Edge blocks its process while it optimises, for seconds to minutes, so the index process has this one do it. `TUNING` is
JSON: the `spaces` of the layout, `quantization` (turbo4, int8, none), `on_disk`, and whether to build a graph (`hnsw`).

It says `copied` on its standard output once it needs `SHARD` no longer, and has done it all when it ends with 0.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from sourcebook_plugins.qdrant.layout import SPARSE, vector_name

_PDEATHSIG = 1
_BLOCK = 1024 * 1024


def copy_sparse(source: str, target: str) -> str:
    """One file without its holes: Edge's files are mostly holes, and would fill the disk."""
    with Path(source).open("rb") as read, Path(target).open("wb") as write:
        size, at = os.fstat(read.fileno()).st_size, 0
        while at < size:
            try:
                start = os.lseek(read.fileno(), at, os.SEEK_DATA)
            except OSError:  # only a hole is left
                break
            at = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            os.lseek(read.fileno(), start, os.SEEK_SET)
            write.seek(start)
            left = at - start
            while left and (block := os.read(read.fileno(), min(left, _BLOCK))):
                write.write(block)
                left -= len(block)
        write.truncate(size)
    return target


def configuration(tuning: dict[str, Any]) -> edge.EdgeConfig:
    """What an optimised segment looks like."""
    distances = {"cosine": edge.Distance.Cosine, "dot": edge.Distance.Dot, "euclid": edge.Distance.Euclid}
    quantised: edge.ScalarQuantizationConfig | edge.TurboQuantQuantizationConfig | None = None
    if tuning["quantization"] == "int8":
        quantised = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, quantile=0.99, memory=edge.Memory.Pinned)
    elif tuning["quantization"] == "turbo4":
        quantised = edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4, memory=edge.Memory.Pinned)
    memory = edge.Memory.Cold if tuning["on_disk"] and quantised else edge.Memory.Cached
    vectors = {
        vector_name(s["name"], s["dimensions"]): edge.EdgeVectorParams(
            size=s["dimensions"], distance=distances[s["distance"]], quantization_config=quantised, memory=memory
        )
        for s in tuning["spaces"]
    }
    terms = edge.Memory.Cached if tuning["on_disk"] else edge.Memory.Pinned
    m = 16 if tuning["hnsw"] else 0
    return edge.EdgeConfig(
        vectors=vectors or None,
        sparse_vectors={SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf, memory=terms)},
        # Without a graph (m = 0) a segment is scanned. What a filter leaves under 10 MB of vectors is scanned anyway.
        hnsw_config=edge.HnswIndexConfig(m=m, payload_m=m, ef_construct=100, full_scan_threshold=10_000),
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=2),
    )


def main() -> None:
    """The command line, as `compacting.py` writes it."""
    with suppress(OSError, AttributeError):  # Linux: end with the index process
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    os.nice(10)
    source, copy, tuning = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy, copy_function=copy_sparse)
    print("copied", flush=True)
    shard = edge.EdgeShard.load(str(copy), configuration(tuning))
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main()
