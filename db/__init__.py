"""All SQL of the project: `migrations/` make the schema, `queries/` are the named statements `store` runs."""
