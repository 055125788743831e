-- name: add_file
-- Begin a file; one that is there already stays. No row: it would not fit beside the others.
WITH room AS (
    SELECT coalesce(sum(bytes), 0) + %(bytes)s <= %(most)s AS enough FROM llm.files
), added AS (
    INSERT INTO llm.files (id, purpose, filename, expires_at)
    SELECT %(id)s, %(purpose)s, %(filename)s, clock_timestamp() + make_interval(secs => %(expires_s)s)
      FROM room WHERE enough
    ON CONFLICT DO NOTHING
)
SELECT enough FROM room WHERE enough;

-- name: put_piece
-- Write a piece of a file; the first one counts.
INSERT INTO llm.file_pieces (file_id, place, data)
SELECT id, %(place)s, %(data)s FROM llm.files WHERE id = %(id)s
ON CONFLICT DO NOTHING;

-- name: close_file
-- All pieces are there: from now on the file can be seen.
UPDATE llm.files SET bytes = %(bytes)s WHERE id = %(id)s AND bytes IS NULL
RETURNING id, purpose, filename, bytes, created_at, expires_at;

-- name: file
-- A file that was written to its end and whose time is not over.
SELECT id, purpose, filename, bytes, created_at, expires_at FROM llm.files
 WHERE id = %(id)s AND bytes IS NOT NULL AND (expires_at IS NULL OR expires_at > statement_timestamp());

-- name: files
-- A page of files, newest first; `before` is the last id of the page before.
SELECT id, purpose, filename, bytes, created_at, expires_at FROM llm.files
 WHERE (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
   AND (%(purpose)s::text IS NULL OR purpose = %(purpose)s::text)
   AND bytes IS NOT NULL AND (expires_at IS NULL OR expires_at > statement_timestamp())
 ORDER BY id DESC LIMIT %(n)s;

-- name: files_ahead
-- The same, oldest first.
SELECT id, purpose, filename, bytes, created_at, expires_at FROM llm.files
 WHERE (%(before)s::uuid IS NULL OR id > %(before)s::uuid)
   AND (%(purpose)s::text IS NULL OR purpose = %(purpose)s::text)
   AND bytes IS NOT NULL AND (expires_at IS NULL OR expires_at > statement_timestamp())
 ORDER BY id LIMIT %(n)s;

-- name: pieces
-- A few pieces of a file from a place on.
SELECT place, data FROM llm.file_pieces
 WHERE file_id = %(id)s AND place >= %(place)s ORDER BY place LIMIT %(n)s;

-- name: delete_file
-- Delete a file that no unfinished batch reads.
DELETE FROM llm.files f
 WHERE f.id = %(id)s
   AND (SELECT true FROM llm.batches b WHERE b.input_file_id = f.id AND b.finished_at IS NULL LIMIT 1) IS NULL
RETURNING f.id;

-- name: sweep_files
-- Delete a few files whose time is over, and some that were never written to their end.
DELETE FROM llm.files f
 WHERE f.id = ANY (ARRAY(
       SELECT o.id FROM llm.files o WHERE o.expires_at IS NOT NULL AND o.expires_at <= statement_timestamp()
        ORDER BY o.expires_at LIMIT 10)
    || ARRAY(SELECT o.id FROM llm.files o WHERE o.bytes IS NULL AND o.created_at < statement_timestamp() - interval '1 day'
              ORDER BY o.created_at LIMIT 10))
   AND (SELECT true FROM llm.batches b WHERE b.input_file_id = f.id AND b.finished_at IS NULL LIMIT 1) IS NULL;
