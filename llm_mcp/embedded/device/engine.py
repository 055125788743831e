"""One model in llama.cpp: the program that a runner starts as its child. The only importer of xllamacpp.

    python engine.py '{"model": "/path/file.gguf", "socket": "/private/folder/llama.sock", "context": 2048, ...}'

It writes `ready` once the model is loaded, then serves llama.cpp's own HTTP interface on the socket until its
standard input ends, which also happens when its parent dies. A process of its own, because llama.cpp holds the
interpreter for as long as a model loads, because memory is only really given back by a process that ends, and
because a model that crashes must take nothing else with it. It is started by its path and imports nothing of this
package, so that it is there in 70 ms.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import xllamacpp

# llama.cpp looks for a cancelled request between batches only: this many tokens are what a cancel may cost.
_BATCH = 64
_ERRORS_ONLY = 1


def parameters(order: dict[str, Any]) -> Any:
    """Return llama.cpp's parameters.

    `order` holds `model` and `socket` (paths), `context` (tokens), `embedding` (whether it answers with vectors)
    and `mean` (whether vectors are the mean of all tokens' where the file itself says nothing).
    """
    wanted = xllamacpp.CommonParams()
    wanted.model.path = order["model"]
    wanted.hostnames = [order["socket"]]
    wanted.n_ctx = order["context"]
    wanted.n_parallel = 1
    wanted.n_batch = wanted.n_ubatch = _BATCH
    wanted.ctx_shift = True
    # Answers of earlier prompts are not kept: up to 8 GiB by default, for one caller's repeated prefix at a time.
    wanted.cache_ram_mib = 0
    wanted.n_threads_http = 4
    wanted.verbosity = _ERRORS_ONLY
    wanted.ui = False
    wanted.endpoint_slots = False
    wanted.offline = True
    if order["embedding"]:
        wanted.embedding = True
        # A text must fit into one batch to be pooled.
        wanted.n_batch = wanted.n_ubatch = order["context"]
        if order["mean"]:
            wanted.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return wanted


def main(order: dict[str, Any]) -> None:
    """Load, say so, serve until standard input ends."""
    # Ctrl-C reaches the whole terminal group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What the parent blocks for itself is inherited.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    told = os.dup(1)
    os.dup2(2, 1)
    server = xllamacpp.Server(parameters(order))
    # From here on the log could hold what callers wrote.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.write(told, b"ready\n")
    os.close(told)
    sys.stdin.buffer.read()
    shutil.rmtree(Path(order["socket"]).parent, ignore_errors=True)
    # Not the destructor's way: it aborts while a request is running.
    os._exit(0 if server else 1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
