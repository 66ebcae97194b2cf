-- The schema and the statements of the SQLite storage.
--
-- Every namespace has tables of its own: `_N` stands for its number. Events are stored once, in order of position;
-- memberships are the index from streams to events. What events and memberships both say (streams, versions, types)
-- is said twice so that reading the log needs one table, and checking a boundary the other.

-- name: schema_1
CREATE TABLE namespaces (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- name: namespace_1
CREATE TABLE events_N (
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    type TEXT NOT NULL,
    type_version INTEGER NOT NULL,
    data TEXT NOT NULL,             -- JSON
    metadata TEXT NOT NULL,         -- JSON
    recorded_at INTEGER NOT NULL,   -- microseconds since 1970, UTC
    streams TEXT NOT NULL           -- JSON: {stream id: version}, without spaces
);
CREATE TABLE memberships_N (
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    position INTEGER NOT NULL,
    type TEXT NOT NULL,
    PRIMARY KEY (stream, version)
) WITHOUT ROWID;
CREATE TABLE voids_N (
    id BLOB PRIMARY KEY             -- of appends that did not happen and never will
) WITHOUT ROWID;
CREATE TABLE places_N (
    place TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    written_at REAL NOT NULL,       -- seconds since 1970
    PRIMARY KEY (place, key)
);

-- name: places_2
-- What version 2 of the schema changes in each namespace.
ALTER TABLE places_N ADD COLUMN written_at REAL NOT NULL DEFAULT 0;

-- name: namespaces
SELECT name FROM namespaces ORDER BY name;

-- name: namespace_ids
SELECT id FROM namespaces;

-- name: find_namespace
SELECT id FROM namespaces WHERE name = ?1;

-- name: insert_namespace
INSERT INTO namespaces (name) VALUES (?1);

-- name: head
SELECT position, id FROM events_N ORDER BY position DESC LIMIT 1;

-- name: head_for_append
-- And what appends have to do inline.
SELECT position, id, recorded_at, EXISTS (SELECT 1 FROM voids_N WHERE id = ?1),
    (SELECT value FROM places_N WHERE place = 'inline' AND key = '')
FROM events_N ORDER BY position DESC LIMIT 1;

-- name: before_all
-- The same for a log without events.
SELECT EXISTS (SELECT 1 FROM voids_N WHERE id = ?1),
    (SELECT value FROM places_N WHERE place = 'inline' AND key = '');

-- name: id_at
SELECT id FROM events_N WHERE position = ?1;

-- name: version
SELECT version FROM memberships_N WHERE stream = ?1 ORDER BY version DESC LIMIT 1;

-- name: insert_event
INSERT INTO events_N (position, id, type, type_version, data, metadata, recorded_at, streams)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8);

-- name: insert_membership
INSERT INTO memberships_N (stream, version, position, type) VALUES (?1, ?2, ?3, ?4);

-- name: insert_void
INSERT OR IGNORE INTO voids_N (id) VALUES (?1);

-- name: find_event
SELECT position FROM events_N WHERE position > ?1 AND id = ?2 ORDER BY position LIMIT 1;

-- name: events_between
SELECT position, id, type, type_version, CAST(data AS BLOB), CAST(metadata AS BLOB), CAST(streams AS BLOB), recorded_at
FROM events_N WHERE position > ?1 AND position <= ?2 ORDER BY position;

-- name: is_touched
-- Whether stream ?1 has an event above version ?2 and above position ?4 of the types ?5. Versions and positions rise
-- together, so the newest ?3 memberships (as many as there are events above position ?4) are all that can be.
SELECT EXISTS (
    SELECT 1 FROM (
        SELECT position, type FROM memberships_N WHERE stream = ?1 AND version > ?2 ORDER BY version DESC LIMIT ?3
    )
    WHERE position > ?4 AND (?5 IS NULL OR type IN (SELECT value FROM json_each(?5)))
);

-- name: selected
SELECT e.position, e.id, e.type, e.type_version,
    CAST(e.data AS BLOB), CAST(e.metadata AS BLOB), CAST(e.streams AS BLOB), e.recorded_at
FROM memberships_N AS m CROSS JOIN events_N AS e ON e.position = m.position
WHERE m.stream = ?1 AND m.version > ?2 AND (?3 IS NULL OR m.type IN (SELECT value FROM json_each(?3)))
ORDER BY m.version LIMIT ?4;

-- name: selected_backwards
SELECT e.position, e.id, e.type, e.type_version,
    CAST(e.data AS BLOB), CAST(e.metadata AS BLOB), CAST(e.streams AS BLOB), e.recorded_at
FROM memberships_N AS m CROSS JOIN events_N AS e ON e.position = m.position
WHERE m.stream = ?1 AND m.version < ?2 AND (?3 IS NULL OR m.type IN (SELECT value FROM json_each(?3)))
ORDER BY m.version DESC LIMIT ?4;

-- name: page
-- ?2: types or NULL; ?3: whether types that begin with `$` belong to it; ?4 and ?5: how the JSON of the first, or of a
-- later, stream of the category begins, or NULL. (A quotation mark inside an id is escaped: these texts occur nowhere else.)
SELECT position, id, type, type_version, CAST(data AS BLOB), CAST(metadata AS BLOB), CAST(streams AS BLOB), recorded_at
FROM events_N
WHERE position > ?1
    AND (?2 IS NULL OR type IN (SELECT value FROM json_each(?2)))
    AND (?3 OR type < '$' OR type >= '%')
    AND (?4 IS NULL OR instr(streams, ?4) OR instr(streams, ?5))
ORDER BY position LIMIT ?6;

-- name: page_backwards
SELECT position, id, type, type_version, CAST(data AS BLOB), CAST(metadata AS BLOB), CAST(streams AS BLOB), recorded_at
FROM events_N
WHERE position < ?1
    AND (?2 IS NULL OR type IN (SELECT value FROM json_each(?2)))
    AND (?3 OR type < '$' OR type >= '%')
    AND (?4 IS NULL OR instr(streams, ?4) OR instr(streams, ?5))
ORDER BY position DESC LIMIT ?6;

-- name: streams
-- From stream ?1 on and below ?2: jumps from stream to stream, however many events each has.
WITH RECURSIVE jump (stream) AS (
    SELECT min(stream) FROM memberships_N WHERE stream >= ?1 AND stream < ?2
    UNION ALL
    SELECT (SELECT min(stream) FROM memberships_N WHERE stream > jump.stream AND stream < ?2)
    FROM jump WHERE jump.stream IS NOT NULL
    LIMIT ?3
)
SELECT jump.stream, m.version, m.position
FROM jump CROSS JOIN memberships_N AS m
ON m.stream = jump.stream AND m.version = (SELECT max(version) FROM memberships_N WHERE stream = jump.stream)
ORDER BY jump.stream;

-- name: get
SELECT value FROM places_N WHERE place = ?1 AND key = ?2;

-- name: entries
SELECT key, value, written_at FROM places_N WHERE place = ?1 AND key > ?2 ORDER BY key LIMIT ?3;

-- name: put
INSERT INTO places_N (place, key, value, written_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (place, key) DO UPDATE SET value = excluded.value, written_at = excluded.written_at;

-- name: remove
DELETE FROM places_N WHERE place = ?1 AND key = ?2;

-- name: events_without_membership
-- Of the events above ?1 and up to ?2: streams and versions that memberships does not know, or knows differently.
SELECT e.position, s.key, s.value
FROM events_N AS e CROSS JOIN json_each(e.streams) AS s
LEFT JOIN memberships_N AS m ON m.stream = s.key AND m.version = s.value
WHERE e.position > ?1 AND e.position <= ?2 AND (m.position IS NOT e.position OR m.type IS NOT e.type)
ORDER BY e.position;

-- name: memberships_page
SELECT m.stream, m.version, m.position, e.position, CAST(e.streams AS BLOB)
FROM memberships_N AS m LEFT JOIN events_N AS e ON e.position = m.position
WHERE (m.stream, m.version) > (?1, ?2)
ORDER BY m.stream, m.version LIMIT ?3;
