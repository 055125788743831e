"""Which clients are tried, what each is to show, and how a user points it at us."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKS = {
    "chat": "a whole answer, why it ended and what it used",
    "stream": "the same answer in pieces",
    "tools": "a tool is called, and its result goes back",
    "schema": "an answer that fits a JSON schema",
    "thinking": "thoughts apart from the answer",
    "embeddings": "vectors of texts",
    "models": "what can be named",
    "responses": "OpenAI's newer dialect, whole and streamed",
    "job": "the job's own stream",
    "resumed": "a stream taken up where it broke",
    "cancelled": "a cancelled job ends the stream with the client's own error",
    "left": "a client that leaves does not stop its job",
    "errors": "mistakes are the client's own errors",
}
"""What may be checked, in the words of the page."""


@dataclass(frozen=True)
class Client:
    """One client.

    Parameters: `script`, in `scripts/` of its room; `pins`, the file of its environment in `pins/`; `shown`, the
    packages whose versions are told; `checks`, what its script must report, no less and no more; `use`, what a user
    writes; `words`, what its script is told beside the server's address; `room`, a folder.
    """

    name: str
    label: str
    script: str
    pins: str
    shown: tuple[str, ...]
    checks: tuple[str, ...]
    use: str
    words: tuple[str, ...] = ()
    room: Path = Path(__file__).parent

    @property
    def npm(self) -> bool:
        """Whether it comes from npm."""
        return self.script.endswith(".mjs")


_TEXT = ("chat", "stream", "tools", "schema")
_OPENAI = (*_TEXT, "responses", "embeddings", "models", "cancelled", "left", "errors")
_OLLAMA = (*_TEXT, "thinking", "embeddings", "models", "cancelled", "left", "errors")

CLIENTS = (
    Client(
        "openai-py",
        "openai (Python)",
        "openai_py.py",
        "openai.txt",
        ("openai",),
        _OPENAI,
        '`OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="none")`',
    ),
    Client(
        "openai-npm",
        "openai (npm)",
        "openai_npm.mjs",
        "package-lock.json",
        ("openai",),
        _OPENAI,
        '`new OpenAI({ baseURL: "http://127.0.0.1:8080/v1", apiKey: "none" })`',
    ),
    Client(
        "ollama-py",
        "ollama (Python)",
        "ollama_py.py",
        "ollama.txt",
        ("ollama",),
        _OLLAMA,
        '`Client(host="http://127.0.0.1:8080")`',
    ),
    Client(
        "ollama-npm",
        "ollama (npm)",
        "ollama_npm.mjs",
        "package-lock.json",
        ("ollama",),
        _OLLAMA,
        '`new Ollama({ host: "http://127.0.0.1:8080" })`',
    ),
    Client(
        "langchain-openai",
        "langchain-openai",
        "langchain_openai_py.py",
        "langchain.txt",
        ("langchain-openai", "langchain-core"),
        (*_TEXT, "embeddings", "cancelled", "errors"),
        '`ChatOpenAI(base_url="http://127.0.0.1:8080/v1", api_key="none", model=…)`; '
        "`OpenAIEmbeddings(…, check_embedding_ctx_length=False)`",
    ),
    Client(
        "langchain-ollama",
        "langchain-ollama",
        "langchain_ollama_py.py",
        "langchain.txt",
        ("langchain-ollama", "langchain-core"),
        (*_TEXT, "thinking", "embeddings", "models", "cancelled", "errors"),
        '`ChatOllama(base_url="http://127.0.0.1:8080", model=…)`',
    ),
    Client(
        "httpx-sse",
        "httpx-sse",
        "httpx_sse_py.py",
        "httpx_sse.txt",
        ("httpx-sse", "httpx"),
        ("chat", "stream", "job", "resumed", "cancelled", "errors"),
        '`connect_sse(client, "GET", "http://127.0.0.1:8080/v1/jobs/ID/stream")`',
    ),
    Client(
        "llm",
        "llm",
        "llm_cli.py",
        "llm.txt",
        ("llm", "llm-ollama"),
        (*_TEXT, "embeddings", "models", "errors"),
        "`api_base: http://127.0.0.1:8080/v1` for a model in `extra-openai-models.yaml`; or "
        "`OLLAMA_HOST=http://127.0.0.1:8080` with the plug-in llm-ollama",
    ),
)
