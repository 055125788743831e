# syntax=docker/dockerfile:1
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
WORKDIR /src
COPY pyproject.toml requirements.lock ./
# The tools by their hashes in the lock; with them what llm-mcp needs to run, likewise, and nothing that only tests need.
RUN --mount=type=cache,target=/root/.cache \
    awk '/^[^ ]/ { tool = /^(uv|setuptools)==/ } tool' requirements.lock >tools.lock \
    && pip install --quiet --root-user-action=ignore --no-deps --require-hashes -r tools.lock \
    && uv venv /opt/llm-mcp \
    && uv pip install --python /opt/llm-mcp --require-hashes --compile-bytecode -r pyproject.toml -c requirements.lock
COPY README.md LICENSE ./
COPY llm_mcp llm_mcp
COPY actors actors
COPY mcp_bridge mcp_bridge
COPY web web
COPY db db
RUN pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /dist . \
    && uv pip install --python /opt/llm-mcp --no-deps --compile-bytecode /dist/*.whl

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="llm-mcp" \
      org.opencontainers.image.description="Durable, leased, streamed language-model jobs over Postgres" \
      org.opencontainers.image.version="2026.11.1" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://github.com/plagness/LLM-MCP"
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin llm-mcp
COPY --from=build /opt/llm-mcp /opt/llm-mcp
ENV PATH=/opt/llm-mcp/bin:$PATH PYTHONUNBUFFERED=1 CORE_HTTP_ADDR=0.0.0.0:8080
USER 10001
WORKDIR /tmp
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --start-interval=500ms --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=2); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["llm-mcp"]
CMD ["web"]
