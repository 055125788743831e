"""dramatiq-pg: Dramatiq's messages in Postgres by psycopg2, locked by session advisory locks."""

import psycopg2
from dramatiq_pg import PostgresBroker, generate_init_sql
from on_dramatiq import OnDramatiq
from protocol import main


class DramatiqPg(OnDramatiq):
    def setup(self):
        with psycopg2.connect(self.dsn) as connection, connection.cursor() as cursor:
            cursor.execute(generate_init_sql())

    def make_broker(self):
        return PostgresBroker(url=self.dsn)


if __name__ == "__main__":
    main(DramatiqPg)
