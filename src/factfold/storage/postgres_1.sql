-- Version 1 of factfold's schema in PostgreSQL: the tables, a view for people, and the functions that the engine calls.
--
-- `factfold` stands for the schema's name. Every namespace is one log. Its row in `namespaces` is the writers' lock:
-- `SELECT ... FOR UPDATE` on it, and it is never updated. Whoever holds it reads the head and appends right behind it,
-- so that positions are dense and in commit order.
--
-- Every operation is one call of one function, and so one round trip. Functions that write are VOLATILE: each of their
-- statements sees what was committed before it, so that what is read after the lock is held is the truth (at READ
-- COMMITTED). Functions that read are STABLE: all of their statements see one snapshot.
--
-- Parallel arrays are unnested side by side in a select list, which keeps their order: in FROM it takes several times as
-- long. A plan that was made while a table was small must still be right when it is large. So every statement walks an index
-- of its table, whatever the planner knows of it, and the settings at each function's end leave it no other choice.

CREATE TABLE factfold.migrations (
    version integer PRIMARY KEY,
    migrated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE factfold.namespaces (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE factfold.events (
    namespace integer NOT NULL,
    type_version integer NOT NULL,
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    id uuid NOT NULL,
    type text COLLATE "C" NOT NULL,
    data jsonb NOT NULL,
    metadata jsonb NOT NULL,
    streams text COLLATE "C" NOT NULL,   -- JSON: {stream id: version}, without spaces
    PRIMARY KEY (namespace, position)
);

-- The index from streams to events. What it says of streams, versions and types is in `events`, too: so that reading
-- the log needs that table alone, and checking a boundary this one.
CREATE TABLE factfold.memberships (
    namespace integer NOT NULL,
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    PRIMARY KEY (namespace, stream, version)
);

-- Ids of appends that did not happen and never will.
CREATE TABLE factfold.voids (
    namespace integer NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (namespace, id)
);

CREATE TABLE factfold.places (
    namespace integer NOT NULL,
    place text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (namespace, place, key)
);

CREATE VIEW factfold.log AS
    SELECT n.name AS namespace, e.position, e.type, e.data, e.streams::jsonb AS streams, e.metadata, e.recorded_at, e.id,
        e.type_version
    FROM factfold.events AS e JOIN factfold.namespaces AS n ON n.id = e.namespace;

CREATE FUNCTION factfold.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'restrict_violation',
        MESSAGE = format('%s of %I.%I is refused: a log only grows', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME),
        HINT = 'Append an event that corrects the others.';
END
$$;

CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON factfold.events
    FOR EACH STATEMENT EXECUTE FUNCTION factfold.refuse();
CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON factfold.memberships
    FOR EACH STATEMENT EXECUTE FUNCTION factfold.refuse();
CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON factfold.namespaces
    FOR EACH STATEMENT EXECUTE FUNCTION factfold.refuse();

-- A row of an answer: an event, or what there is to say beside the events.
--
-- Slot 0 holds the news (what others appended), slots 1, 2, ... what was asked for under these numbers. In these slots a
-- row without a type says how long a stream is: its version is in `position`. The last row of an answer has slot -1: its
-- `type` is the verdict, `position` and `id` are the head (in an answer 'diverged', what was found in its place), `data`
-- are the indices of the selections that are touched, counted from 1, and `metadata` the versions that the streams of an
-- append had before, where the asker may have been wrong about them; both as JSON arrays.
CREATE TYPE factfold.answer AS (
    slot integer,
    position bigint,
    id uuid,
    type text,
    type_version integer,
    data text,
    metadata text,
    streams text,
    recorded_at timestamptz
);

-- -- Parts of the functions below -----------------------------------------------------------------------------------

-- Takes the writers' lock, for as long as the transaction lasts. Gives the namespace's id.
CREATE FUNCTION factfold.take_lock(namespace_name text, patience integer) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ns integer;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_transaction_state',
            MESSAGE = format('the isolation level is %s', current_setting('transaction_isolation')),
            HINT = 'factfold appends at READ COMMITTED: set default_transaction_isolation of role and database to it.';
    END IF;
    PERFORM set_config('lock_timeout', patience::text, true);
    SELECT n.id INTO ns FROM factfold.namespaces AS n WHERE n.name = namespace_name FOR UPDATE;
    IF ns IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = 'the namespace is not in the database any more';
    END IF;
    RETURN ns;
END
$$;

-- Which selections have an event above `above` and up to `upto`, counted from 1. `known` are versions at or before
-- `above`, 0 where nothing is known. Versions and positions rise together, so the newest memberships (as many as there
-- are events in between) are all that can be.
CREATE FUNCTION factfold.touched(
    ns integer, above bigint, upto bigint, asked text[], asked_types text[], known bigint[]
) RETURNS integer[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY(
        SELECT a.index
        FROM (
            SELECT unnest(asked) AS stream, unnest(asked_types) AS types, unnest(known) AS version,
                generate_subscripts(asked, 1) AS index
        ) AS a
        WHERE EXISTS (
            SELECT FROM (
                SELECT m.position, m.type
                FROM factfold.memberships AS m
                WHERE m.namespace = ns AND m.stream = a.stream AND m.version > a.version
                ORDER BY m.version DESC
                LIMIT upto - above
            ) AS newest
            WHERE newest.position > above AND (a.types IS NULL OR newest.type = ANY (a.types::text[]))
        )
    );
END
$$;

-- The events above `above` and up to `upto`, as news. Fewer than these: they are too many, or too many bytes, to be told.
CREATE FUNCTION factfold.news(ns integer, above bigint, upto bigint) RETURNS SETOF factfold.answer
LANGUAGE plpgsql STABLE AS $$
DECLARE
    told factfold.answer;
    size bigint := 0;
BEGIN
    IF upto - above > 1000 THEN  -- NEWS_LIMIT of the storage contract
        RETURN;
    END IF;
    FOR told IN
        SELECT 0, e.position, e.id, e.type, e.type_version, e.data::text, e.metadata::text, e.streams, e.recorded_at
        FROM factfold.events AS e
        WHERE e.namespace = ns AND e.position > above AND e.position <= upto
        ORDER BY e.position
    LOOP
        size := size + octet_length(told.data);
        EXIT WHEN size > 4194304;  -- NEWS_BYTES
        RETURN NEXT told;
    END LOOP;
END
$$;

-- The last row of an answer.
CREATE FUNCTION factfold.verdict(
    verdict text, head_position bigint, head_id uuid, touched integer[] DEFAULT NULL, versions bigint[] DEFAULT NULL,
    recorded_at timestamptz DEFAULT NULL
) RETURNS factfold.answer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN ROW(
        -1, head_position, head_id, verdict, NULL, array_to_json(touched)::text, array_to_json(versions)::text, NULL,
        recorded_at
    )::factfold.answer;
END
$$;

-- What was appended above `after` (the news, when these are to be told), and which selections it touches. The verdict is
-- 'same' (nothing was), 'moved', or 'diverged' (another event, or none, stands at `after`).
CREATE FUNCTION factfold.compare(
    ns integer, after_position bigint, after_id uuid, asked text[], asked_types text[], known bigint[], tell boolean
) RETURNS SETOF factfold.answer LANGUAGE plpgsql STABLE AS $$
DECLARE
    head_position bigint;
    head_id uuid;
    found_id uuid;
BEGIN
    SELECT e.position, e.id INTO head_position, head_id
    FROM factfold.events AS e WHERE e.namespace = ns ORDER BY e.position DESC LIMIT 1;
    head_position := coalesce(head_position, 0);
    IF head_position = after_position AND head_id IS NOT DISTINCT FROM after_id THEN
        RETURN NEXT factfold.verdict('same', head_position, head_id);
        RETURN;
    END IF;
    IF after_position > 0 THEN
        SELECT e.id INTO found_id FROM factfold.events AS e WHERE e.namespace = ns AND e.position = after_position;
        IF found_id IS DISTINCT FROM after_id THEN
            RETURN NEXT factfold.verdict('diverged', head_position, found_id);
            RETURN;
        END IF;
    END IF;
    IF tell THEN
        RETURN QUERY SELECT * FROM factfold.news(ns, after_position, head_position);
    END IF;
    RETURN NEXT factfold.verdict(
        'moved', head_position, head_id,
        factfold.touched(ns, after_position, head_position, asked, asked_types, known)
    );
END
$$;

-- -- Writing ----------------------------------------------------------------------------------------------------------

-- Appends, if none of the selections (`asked`, with `asked_types` as arrays, NULL for all types) has an event above
-- `after`. `asked_versions` are the versions that their streams had at `after`, as far as they are known, else 0.
--
-- The arrays of events are parallel, and so are those of memberships; `member_events` counts the events from 1. All
-- versions in `streams` and `member_versions` rest on `written_versions`, those that the streams in `written` are
-- believed to have before (NULL: not known, taken for 0). Where that is wrong, all of them are shifted.
--
-- The verdict is 'appended' (behind the head that it tells), 'void', 'moved' (it failed) or 'diverged'.
CREATE FUNCTION factfold.append(
    namespace_name text, patience integer, after_position bigint, after_id uuid,
    asked text[], asked_types text[], asked_versions bigint[],
    ids uuid[], types text[], type_versions integer[], data jsonb[], metadata jsonb[], streams text[],
    member_streams text[], member_types text[], member_versions bigint[], member_events integer[],
    written text[], written_versions bigint[]
) RETURNS SETOF factfold.answer LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
    seen_position bigint;
    seen_id uuid;
    seen record;
    head_position bigint;
    head_id uuid;
    recorded timestamptz;
    actual_versions bigint[];
    shift jsonb;
BEGIN
    -- Without the lock: who has lost already need not wait for it.
    SELECT n.id INTO ns FROM factfold.namespaces AS n WHERE n.name = namespace_name;
    SELECT e.position, e.id INTO seen_position, seen_id
    FROM factfold.events AS e WHERE e.namespace = ns ORDER BY e.position DESC LIMIT 1;
    seen_position := coalesce(seen_position, 0);
    IF seen_position <> after_position OR seen_id IS DISTINCT FROM after_id THEN
        SELECT c.position, c.id, c.type AS verdict, c.data AS touched INTO seen
        FROM factfold.compare(ns, after_position, after_id, asked, asked_types, asked_versions, false) AS c;
        IF seen.verdict = 'diverged' OR seen.touched <> '[]' THEN
            IF EXISTS (SELECT FROM factfold.voids AS v WHERE v.namespace = ns AND v.id = ids[1]) THEN
                RETURN NEXT factfold.verdict('void', seen.position, seen.id);
                RETURN;
            END IF;
            RETURN QUERY SELECT * FROM
                factfold.compare(ns, after_position, after_id, asked, asked_types, asked_versions, true);
            RETURN;
        END IF;
        seen_position := seen.position;
        seen_id := seen.id;
    END IF;

    ns := factfold.take_lock(namespace_name, patience);
    SELECT e.position, e.id, e.recorded_at INTO head_position, head_id, recorded
    FROM factfold.events AS e WHERE e.namespace = ns ORDER BY e.position DESC LIMIT 1;
    head_position := coalesce(head_position, 0);
    IF EXISTS (SELECT FROM factfold.voids AS v WHERE v.namespace = ns AND v.id = ids[1]) THEN
        RETURN NEXT factfold.verdict('void', head_position, head_id);
        RETURN;
    END IF;
    IF head_position <> seen_position OR head_id IS DISTINCT FROM seen_id THEN
        IF head_position <= seen_position
            OR factfold.touched(ns, seen_position, head_position, asked, asked_types, asked_versions) <> '{}'
        THEN
            RETURN QUERY SELECT * FROM
                factfold.compare(ns, after_position, after_id, asked, asked_types, asked_versions, true);
            RETURN;
        END IF;
    END IF;

    IF head_position <> after_position OR array_position(written_versions, NULL) IS NOT NULL THEN
        actual_versions := ARRAY(
            SELECT coalesce((
                SELECT m.version FROM factfold.memberships AS m
                WHERE m.namespace = ns AND m.stream = w.stream ORDER BY m.version DESC LIMIT 1
            ), 0)
            FROM unnest(written) AS w (stream)
        );
        SELECT jsonb_object_agg(w.stream, w.actual - coalesce(w.believed, 0)) INTO shift
        FROM (
            SELECT unnest(written) AS stream, unnest(actual_versions) AS actual, unnest(written_versions) AS believed
        ) AS w
        WHERE w.actual <> coalesce(w.believed, 0);
        IF shift IS NOT NULL THEN
            member_versions := ARRAY(
                SELECT m.version + coalesce((shift ->> m.stream)::bigint, 0)
                FROM (SELECT unnest(member_streams) AS stream, unnest(member_versions) AS version) AS m
            );
            streams := ARRAY(
                SELECT (
                    SELECT '{' || string_agg(
                        to_json(m.key)::text || ':' || (m.value::bigint + coalesce((shift ->> m.key)::bigint, 0)), ','
                    ) || '}'
                    FROM json_each_text(s.streams::json) AS m
                )
                FROM unnest(streams) AS s (streams)
            );
        END IF;
    END IF;

    recorded := greatest(clock_timestamp(), recorded);
    INSERT INTO factfold.events (namespace, type_version, position, recorded_at, id, type, data, metadata, streams)
    SELECT ns, e.type_version, head_position + e.index, recorded, e.id, e.type, e.data, e.metadata, e.streams
    FROM (
        SELECT unnest(ids) AS id, unnest(types) AS type, unnest(type_versions) AS type_version, unnest(data) AS data,
            unnest(metadata) AS metadata, unnest(streams) AS streams, generate_subscripts(ids, 1) AS index
    ) AS e;
    INSERT INTO factfold.memberships (namespace, stream, version, position, type)
    SELECT ns, m.stream, m.version, head_position + m.event, m.type
    FROM (
        SELECT unnest(member_streams) AS stream, unnest(member_types) AS type, unnest(member_versions) AS version,
            unnest(member_events) AS event
    ) AS m;

    IF head_position > after_position THEN
        RETURN QUERY SELECT * FROM factfold.news(ns, after_position, head_position);
    END IF;
    RETURN NEXT factfold.verdict('appended', head_position, head_id, NULL, actual_versions, recorded);
END
$$;

-- Takes the writers' lock for a transaction that goes on: until its end, or until it has been idle for too long.
CREATE FUNCTION factfold.hold(
    namespace_name text, patience integer, after_position bigint, after_id uuid,
    asked text[], asked_types text[], asked_versions bigint[]
) RETURNS SETOF factfold.answer LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
BEGIN
    PERFORM set_config('idle_in_transaction_session_timeout', patience::text, true);
    ns := factfold.take_lock(namespace_name, patience);
    RETURN QUERY SELECT * FROM
        factfold.compare(ns, after_position, after_id, asked, asked_types, asked_versions, true);
END
$$;

-- What became of an append whose first event is `append_id` and that holds `size` events. The verdict is 'appended', with
-- its events in slot 1 and the news before them, or 'void': it is not there, and from now on it never will be.
CREATE FUNCTION factfold.resolve(
    namespace_name text, patience integer, after_position bigint, after_id uuid, append_id uuid, size integer
) RETURNS SETOF factfold.answer LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
    first bigint;
    before uuid;
    found_id uuid;
BEGIN
    ns := factfold.take_lock(namespace_name, patience);
    SELECT e.position INTO first
    FROM factfold.events AS e
    WHERE e.namespace = ns AND e.position > after_position AND e.id = append_id
    ORDER BY e.position LIMIT 1;
    IF first IS NULL THEN
        INSERT INTO factfold.voids (namespace, id) VALUES (ns, append_id) ON CONFLICT DO NOTHING;
        RETURN NEXT factfold.verdict('void', NULL, NULL);
        RETURN;
    END IF;
    IF after_position > 0 THEN
        SELECT e.id INTO found_id FROM factfold.events AS e WHERE e.namespace = ns AND e.position = after_position;
        IF found_id IS DISTINCT FROM after_id THEN
            RETURN NEXT factfold.verdict('diverged', first, found_id);
            RETURN;
        END IF;
    END IF;
    RETURN QUERY SELECT * FROM factfold.news(ns, after_position, first - 1);
    RETURN QUERY
        SELECT 1, e.position, e.id, e.type, e.type_version, e.data::text, e.metadata::text, e.streams, e.recorded_at
        FROM factfold.events AS e
        WHERE e.namespace = ns AND e.position >= first AND e.position < first + size
        ORDER BY e.position;
    SELECT e.id INTO before FROM factfold.events AS e WHERE e.namespace = ns AND e.position = first - 1;
    RETURN NEXT factfold.verdict('appended', first - 1, before);
END
$$;

-- Writes a small value, or removes it when it is NULL.
CREATE FUNCTION factfold.put(namespace_name text, put_place text, put_key text, put_value bytea) RETURNS void
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    IF put_value IS NULL THEN
        DELETE FROM factfold.places AS p USING factfold.namespaces AS n
        WHERE n.name = namespace_name AND p.namespace = n.id AND p.place = put_place AND p.key = put_key;
    ELSE
        INSERT INTO factfold.places (namespace, place, key, value)
        SELECT n.id, put_place, put_key, put_value FROM factfold.namespaces AS n WHERE n.name = namespace_name
        ON CONFLICT (namespace, place, key) DO UPDATE SET value = excluded.value;
    END IF;
END
$$;

-- -- Reading ----------------------------------------------------------------------------------------------------------

CREATE FUNCTION factfold.head(namespace_name text) RETURNS TABLE ("position" bigint, id uuid) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    RETURN QUERY
        SELECT e.position, e.id
        FROM factfold.events AS e
        WHERE e.namespace = (SELECT n.id FROM factfold.namespaces AS n WHERE n.name = namespace_name)
        ORDER BY e.position DESC LIMIT 1;
END
$$;

-- Compares with a head, without the lock.
CREATE FUNCTION factfold.look(
    namespace_name text, after_position bigint, after_id uuid, asked text[], asked_types text[], asked_versions bigint[]
) RETURNS SETOF factfold.answer LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
BEGIN
    SELECT n.id INTO ns FROM factfold.namespaces AS n WHERE n.name = namespace_name;
    RETURN QUERY SELECT * FROM
        factfold.compare(ns, after_position, after_id, asked, asked_types, asked_versions, true);
END
$$;

-- The events of several selections, each above a version: in slots 1, 2, ..., at most `room` in all. Where they do not fit
-- in, one more than does is given, which tells that there is more. `after_position` is NULL when no news are asked for.
CREATE FUNCTION factfold.load(
    namespace_name text, after_position bigint, after_id uuid,
    asked text[], asked_types text[], above_versions bigint[], room integer
) RETURNS SETOF factfold.answer LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
    wanted record;
    last bigint;
    brought integer;
BEGIN
    SELECT n.id INTO ns FROM factfold.namespaces AS n WHERE n.name = namespace_name;
    FOR wanted IN
        SELECT a.stream, a.types::text[] AS types, a.version, a.index::integer AS index
        FROM (
            SELECT unnest(asked) AS stream, unnest(asked_types) AS types, unnest(above_versions) AS version,
                generate_subscripts(asked, 1) AS index
        ) AS a
        ORDER BY a.index
    LOOP
        SELECT m.version INTO last
        FROM factfold.memberships AS m
        WHERE m.namespace = ns AND m.stream = wanted.stream ORDER BY m.version DESC LIMIT 1;
        IF last > wanted.version THEN
            RETURN QUERY
                SELECT wanted.index, e.position, e.id, e.type, e.type_version, e.data::text, e.metadata::text, e.streams,
                    e.recorded_at
                FROM (
                    SELECT m.version, m.position
                    FROM factfold.memberships AS m
                    WHERE m.namespace = ns AND m.stream = wanted.stream AND m.version > wanted.version
                        AND (wanted.types IS NULL OR m.type = ANY (wanted.types))
                    ORDER BY m.version LIMIT room + 1
                ) AS m CROSS JOIN LATERAL (
                    SELECT * FROM factfold.events AS e WHERE e.namespace = ns AND e.position = m.position LIMIT 1
                ) AS e
                ORDER BY m.version;
            GET DIAGNOSTICS brought = ROW_COUNT;
            room := greatest(room - brought, 0);
        END IF;
        RETURN NEXT ROW(wanted.index, last, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::factfold.answer;
    END LOOP;
    IF after_position IS NULL THEN
        RETURN QUERY SELECT * FROM factfold.compare(ns, 0, NULL, '{}', '{}', '{}', false);
    ELSE
        RETURN QUERY SELECT * FROM factfold.compare(
            ns, after_position, after_id, asked, asked_types, array_fill(0::bigint, ARRAY[cardinality(asked)]), true
        );
    END IF;
END
$$;

-- A page of the log: up to `size` events above `above`, or below it when `backwards`. `types` NULL: of all types. `first`
-- and `later`: how the JSON of the first, or of a later, stream of the category begins; NULL: of all categories. (A
-- quotation mark inside an id is escaped, so that these texts occur nowhere else.)
CREATE FUNCTION factfold.read_log(
    namespace_name text, above bigint, size integer, types text[], system boolean, first text, later text,
    backwards boolean
) RETURNS SETOF factfold.answer LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
BEGIN
    SELECT n.id INTO ns FROM factfold.namespaces AS n WHERE n.name = namespace_name;
    IF backwards THEN
        RETURN QUERY
            SELECT 1, e.position, e.id, e.type, e.type_version, e.data::text, e.metadata::text, e.streams, e.recorded_at
            FROM factfold.events AS e
            WHERE e.namespace = ns AND e.position < above
                AND (types IS NULL OR e.type = ANY (types))
                AND (system OR NOT starts_with(e.type, '$'))
                AND (first IS NULL OR starts_with(e.streams, first) OR strpos(e.streams, later) > 0)
            ORDER BY e.position DESC LIMIT size;
    ELSE
        RETURN QUERY
            SELECT 1, e.position, e.id, e.type, e.type_version, e.data::text, e.metadata::text, e.streams, e.recorded_at
            FROM factfold.events AS e
            WHERE e.namespace = ns AND e.position > above
                AND (types IS NULL OR e.type = ANY (types))
                AND (system OR NOT starts_with(e.type, '$'))
                AND (first IS NULL OR starts_with(e.streams, first) OR strpos(e.streams, later) > 0)
            ORDER BY e.position LIMIT size;
    END IF;
END
$$;

-- A page of a stream: up to `size` events above version `above`, or below it when `backwards`.
CREATE FUNCTION factfold.read_stream(
    namespace_name text, of_stream text, above bigint, size integer, types text[], backwards boolean
) RETURNS SETOF factfold.answer LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
BEGIN
    SELECT n.id INTO ns FROM factfold.namespaces AS n WHERE n.name = namespace_name;
    IF backwards THEN
        RETURN QUERY
            SELECT 1, e.position, e.id, e.type, e.type_version, e.data::text, e.metadata::text, e.streams, e.recorded_at
            FROM (
                SELECT m.version, m.position
                FROM factfold.memberships AS m
                WHERE m.namespace = ns AND m.stream = of_stream AND m.version < above
                    AND (types IS NULL OR m.type = ANY (types))
                ORDER BY m.version DESC LIMIT size
            ) AS m CROSS JOIN LATERAL (
                SELECT * FROM factfold.events AS e WHERE e.namespace = ns AND e.position = m.position LIMIT 1
            ) AS e
            ORDER BY m.version DESC;
    ELSE
        RETURN QUERY
            SELECT 1, e.position, e.id, e.type, e.type_version, e.data::text, e.metadata::text, e.streams, e.recorded_at
            FROM (
                SELECT m.version, m.position
                FROM factfold.memberships AS m
                WHERE m.namespace = ns AND m.stream = of_stream AND m.version > above
                    AND (types IS NULL OR m.type = ANY (types))
                ORDER BY m.version LIMIT size
            ) AS m CROSS JOIN LATERAL (
                SELECT * FROM factfold.events AS e WHERE e.namespace = ns AND e.position = m.position LIMIT 1
            ) AS e
            ORDER BY m.version;
    END IF;
END
$$;

-- Up to `size` streams from `start` on, above `above` and, unless it is NULL, below `below`: jumps from stream to stream,
-- however many events each has.
CREATE FUNCTION factfold.list_streams(namespace_name text, start text, above text, below text, size integer)
RETURNS TABLE (stream text, version bigint, "position" bigint) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
BEGIN
    SELECT n.id INTO ns FROM factfold.namespaces AS n WHERE n.name = namespace_name;
    FOR counted IN 1 .. size LOOP
        SELECT m.stream INTO above
        FROM factfold.memberships AS m
        WHERE m.namespace = ns AND m.stream > above AND m.stream >= start
        ORDER BY m.stream, m.version LIMIT 1;
        EXIT WHEN above IS NULL OR above COLLATE "C" >= below;
        SELECT m.stream, m.version, m.position INTO stream, version, "position"
        FROM factfold.memberships AS m
        WHERE m.namespace = ns AND m.stream = above
        ORDER BY m.version DESC LIMIT 1;
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE FUNCTION factfold.get(namespace_name text, in_place text, with_key text) RETURNS bytea LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    RETURN (
        SELECT p.value
        FROM factfold.places AS p
        WHERE p.namespace = (SELECT n.id FROM factfold.namespaces AS n WHERE n.name = namespace_name)
            AND p.place = in_place AND p.key = with_key
    );
END
$$;

-- Of the events above `above` and up to `upto`: streams and versions that `memberships` does not know, or knows
-- differently.
CREATE FUNCTION factfold.unlisted(namespace_name text, above bigint, upto bigint)
RETURNS TABLE ("position" bigint, stream text, version bigint) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    RETURN QUERY
        SELECT e.position, s.key, s.value::bigint
        FROM factfold.events AS e
        CROSS JOIN LATERAL json_each_text(e.streams::json) AS s
        LEFT JOIN LATERAL (
            SELECT m.position, m.type
            FROM factfold.memberships AS m
            WHERE m.namespace = e.namespace AND m.stream = s.key AND m.version = s.value::bigint
            LIMIT 1
        ) AS m ON true
        WHERE e.namespace = (SELECT n.id FROM factfold.namespaces AS n WHERE n.name = namespace_name)
            AND e.position > above AND e.position <= upto
            AND (m.position IS DISTINCT FROM e.position OR m.type IS DISTINCT FROM e.type)
        ORDER BY e.position;
END
$$;

-- A page of memberships in their order, each with the event that stands at its position.
CREATE FUNCTION factfold.list_memberships(namespace_name text, after_stream text, after_version bigint, size integer)
RETURNS TABLE (stream text, version bigint, "position" bigint, event bigint, streams text) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    RETURN QUERY
        SELECT m.stream, m.version, m.position, e.position, e.streams
        FROM (
            SELECT m.namespace, m.stream, m.version, m.position
            FROM factfold.memberships AS m
            WHERE m.namespace = (SELECT n.id FROM factfold.namespaces AS n WHERE n.name = namespace_name)
                AND (m.stream, m.version) > (after_stream COLLATE "C", after_version)
            ORDER BY m.stream, m.version LIMIT size
        ) AS m LEFT JOIN LATERAL (
            SELECT * FROM factfold.events AS e WHERE e.namespace = m.namespace AND e.position = m.position LIMIT 1
        ) AS e ON true
        ORDER BY m.stream, m.version;
END
$$;
