"""dramatiq-postgres: Dramatiq's messages in Postgres by psycopg 3, claimed with SKIP LOCKED, heartbeats per worker."""

import psycopg
from dramatiq_postgres import PostgresBroker, generate_init_sql
from on_dramatiq import OnDramatiq
from protocol import main


class DramatiqPostgres(OnDramatiq):
    def setup(self):
        with psycopg.connect(self.dsn) as connection:
            connection.execute(generate_init_sql())

    def make_broker(self):
        return PostgresBroker(url=self.dsn)


if __name__ == "__main__":
    main(DramatiqPostgres)
