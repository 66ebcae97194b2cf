-- Version 1 of factfold's schema in PostgreSQL: the functions that write.

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

-- What became of an append whose first event is `append_id` and that holds `size` events. The verdict is 'appended',
-- with its events in slot 1 and the news before them, or 'void': it is not there, and from now on it never will be.
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
