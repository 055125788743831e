"""The database, and the only place that runs SQL. Statements live in `db/queries`, the schema in `db/migrations`."""
