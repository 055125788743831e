-- Machines that work or serve models: what clients of the wire contract read and write by SQL as well.
CREATE TABLE llm.devices (
    id         text PRIMARY KEY,
    name       text NOT NULL DEFAULT '',
    platform   text NOT NULL DEFAULT '',
    arch       text NOT NULL DEFAULT '',
    host       text NOT NULL DEFAULT '',
    tags       json NOT NULL DEFAULT '{}' CHECK (json_typeof(tags) = 'object'),  -- as it was written; never jsonb
    status     text NOT NULL DEFAULT 'unknown' CHECK (status IN ('online', 'offline', 'unknown')),
    last_seen  timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);

-- Tags with others put over them: what is named stays where it was, whatever else somebody wrote there is kept. The text
-- of each value stays as it is.
CREATE FUNCTION llm.merged_tags(old json, new json) RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(json_object_agg(key, value), '{}') FROM (
        SELECT DISTINCT ON (key) key, value
          FROM (SELECT key, value, 1 AS rank FROM json_each(new)
                UNION ALL SELECT key, value, 2 FROM json_each(old)) AS every
         ORDER BY key, rank) AS one
$$;
