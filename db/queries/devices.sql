-- name: device_registered
-- A machine says what it is. What others wrote among its tags (discovery does) is kept.
INSERT INTO llm.devices AS d (id, name, platform, arch, host, tags, status, last_seen)
VALUES (%(id)s, %(name)s, %(platform)s, %(arch)s, %(host)s, %(tags)s::json, 'online', clock_timestamp())
ON CONFLICT (id) DO UPDATE
   SET name = excluded.name, platform = excluded.platform, arch = excluded.arch, host = excluded.host,
       tags = llm.merged_tags(d.tags, excluded.tags), status = 'online', last_seen = clock_timestamp(),
       updated_at = clock_timestamp();

-- name: devices
-- The machines we know, the one seen last first.
SELECT id, name, platform, arch, status, last_seen FROM llm.devices
 ORDER BY last_seen DESC NULLS LAST, id LIMIT %(n)s;

-- name: device_offline
-- Somebody found a machine away. The tags say why, and when.
UPDATE llm.devices
   SET status = 'offline', updated_at = clock_timestamp(),
       tags = llm.merged_tags(tags, json_build_object(
           'last_error', %(reason)s::text,
           'last_error_at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
 WHERE id = %(id)s;
