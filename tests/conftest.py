"""One real Postgres for the whole run, a database of its own for every test that asks."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from llm_mcp import config
from llm_mcp import runtime as runtimes
from llm_mcp.config import Settings
from llm_mcp.embedded.postgres import EmbeddedPostgres
from llm_mcp.jobs import Jobs
from llm_mcp.runtime import Runtime
from llm_mcp.store.migrate import migrate

_TEMPLATE = "llm_template"
_numbers = itertools.count(1)


def new_scratch(name: str) -> Path:
    """Make a folder that the account of an embedded Postgres can enter, also when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix=f"llm-mcp-{name}-"))
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No setting of the machine reaches a test, and no test reaches the machine's own data or cloud keys."""
    with pytest.MonkeyPatch.context() as patch:
        for field in Settings.model_fields.values():
            for name in getattr(field.validation_alias, "choices", []):
                patch.delenv(str(name), raising=False)
        patch.setenv("LLM_MCP_DATA_DIR", str(tmp_path_factory.mktemp("no-data")))
        patch.setenv("LLM_MCP_LOG_FORMAT", "json")
        patch.setenv("LLM_MCP_ENV_FILE", "")
        config.settings.cache_clear()
        yield
    config.settings.cache_clear()


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The embedded server of this run."""
    scratch = new_scratch("postgres")
    try:
        with EmbeddedPostgres(scratch / "data") as server:
            yield server
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """A migrated database that others are copied from; returns its name."""
    with psycopg.connect(postgres.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {_TEMPLATE}")
    migrate(make_conninfo(postgres.dsn, dbname=_TEMPLATE))
    return _TEMPLATE


def _database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"t{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    try:
        yield make_conninfo(server.dsn, dbname=name)
    finally:
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_dsn(postgres: EmbeddedPostgres) -> Iterator[str]:
    """DSN of a fresh database without our schema."""
    yield from _database(postgres, "template0")


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """DSN of a fresh, migrated database."""
    yield from _database(postgres, template)


@pytest.fixture
def settings(dsn: str, tmp_path: Path) -> Settings:
    """Settings over the fresh database, with a short lease so that losing one takes no half minute."""
    return config.load(db_dsn=dsn, data_dir=tmp_path, lease_s=3.0, reap_s=0.2, poll_s=0.2)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """This process's runtime over the fresh database."""
    made = Runtime(settings)
    runtimes.use(made)
    yield made
    runtimes.use(None)
    made.close()


@pytest.fixture
def jobs(runtime: Runtime) -> Jobs:
    """The jobs service over the fresh database."""
    return Jobs(runtime)
