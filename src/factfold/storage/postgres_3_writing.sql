-- Version 3 of factfold's schema in PostgreSQL: appends that do less, and say which streams must be empty.

-- Who does not know of that must not write.
DROP FUNCTION factfold.append(
    text, integer, bigint, uuid, text[], text[], bigint[], uuid[], text[], integer[], jsonb[], jsonb[], text[], text[],
    text[], bigint[], integer[], text[], bigint[], bytea
);

-- Those of the streams that have an event.
CREATE FUNCTION factfold.with_events(ns integer, given text[]) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY(
        SELECT g.stream
        FROM unnest(given) AS g (stream) CROSS JOIN LATERAL (
            SELECT FROM factfold.memberships AS m WHERE m.namespace = ns AND m.stream = g.stream LIMIT 1
        ) AS m
    );
END
$$;

-- What an append is told that failed: the news, the selections that are touched, and the streams that are not empty.
CREATE FUNCTION factfold.refusal(
    ns integer, after_position bigint, after_id uuid, asked text[], asked_types text[], known bigint[],
    empty_streams text[]
) RETURNS SETOF factfold.answer LANGUAGE plpgsql STABLE AS $$
DECLARE
    told factfold.answer;
BEGIN
    FOR told IN
        SELECT * FROM factfold.compare(ns, after_position, after_id, asked, asked_types, known, true)
    LOOP
        IF told.slot = -1 THEN
            told.streams := array_to_json(factfold.with_events(ns, empty_streams));
        END IF;
        RETURN NEXT told;
    END LOOP;
END
$$;

-- Appends, if none of the selections (`asked`, with `asked_types` as arrays, NULL for all types) has an event above
-- `after`, and if the streams in `empty_streams` (NULL: none) have no event at all. `asked_versions` are the versions
-- that the streams of the selections had at `after`, as far as they are known, else 0.
--
-- The arrays of events are parallel, and so are those of memberships; `member_events` counts the events from 1. Where
-- each event is in one stream, `member_types` and `member_events` are NULL: they follow from the events. All versions
-- in `streams` and `member_versions` rest on `written_versions`, those that the streams in `written` are believed to
-- have before (NULL: not known, taken for 0). Where that is wrong, all of them are shifted.
--
-- `inline` are the inline projections that the writer runs, NULL where it runs none. A writer that runs some writes on
-- in the transaction, which stays open.
--
-- The verdict is 'appended' (behind the head that it tells), 'void', 'moved' or 'same' (it failed), 'diverged', or
-- 'inline': the database asks for other projections, which `data` names as hexadecimal digits. Where it failed,
-- `streams` are those of `empty_streams` that have events, as a JSON array.
--
-- A transaction sets up each statement and each expression that it comes to, and for one event that is most of what an
-- append costs. So what is usual takes four statements: the lock, a look at the head, and the two inserts.
CREATE FUNCTION factfold.append(
    namespace_name text, patience integer, after_position bigint, after_id uuid,
    asked text[], asked_types text[], asked_versions bigint[],
    ids uuid[], types text[], type_versions integer[], data jsonb[], metadata jsonb[], streams text[],
    member_streams text[], member_types text[], member_versions bigint[], member_events integer[],
    written text[], written_versions bigint[], inline bytea, empty_streams text[]
) RETURNS SETOF factfold.answer LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
    seen_position bigint;
    seen_id uuid;
    found_id uuid;
    head_position bigint;
    head_id uuid;
    recorded timestamptz;
    is_void boolean;
    asked_inline bytea;
    has_failed boolean;
    actual_versions bigint[];
    shift jsonb;
BEGIN
    -- Takes the lock, if nothing came since `after`. The head is read once it is held: whoever had it before may have
    -- appended while it was waited for.
    IF current_setting('transaction_isolation') = 'read committed'
        AND set_config('lock_timeout', patience::text, true) IS NOT NULL
    THEN
        SELECT n.id, after_position, after_id INTO ns, seen_position, seen_id
        FROM factfold.namespaces AS n
        WHERE n.name = namespace_name AND (
            SELECT e.position FROM factfold.events AS e
            WHERE e.namespace = n.id AND e.position > after_position ORDER BY e.position LIMIT 1
        ) IS NULL
        FOR UPDATE;
    END IF;

    -- Else it looks at what came, without the lock: who has lost already need not wait for it.
    IF ns IS NULL THEN
        SELECT n.id, e.position, e.id,
            (SELECT a.id FROM factfold.events AS a WHERE a.namespace = n.id AND a.position = after_position LIMIT 1)
        INTO ns, seen_position, seen_id, found_id
        FROM factfold.namespaces AS n LEFT JOIN LATERAL (
            SELECT e.position, e.id FROM factfold.events AS e
            WHERE e.namespace = n.id AND e.position >= after_position ORDER BY e.position DESC LIMIT 1
        ) AS e ON true
        WHERE n.name = namespace_name;
        IF found_id IS DISTINCT FROM after_id
            OR factfold.touched(ns, after_position, seen_position, asked, asked_types, asked_versions) <> '{}'
        THEN
            IF EXISTS (SELECT FROM factfold.voids AS v WHERE v.namespace = ns AND v.id = ids[1]) THEN
                RETURN NEXT factfold.verdict('void', seen_position, seen_id);
                RETURN;
            END IF;
            RETURN QUERY SELECT * FROM factfold.refusal(
                ns, after_position, after_id, asked, asked_types, asked_versions, empty_streams
            );
            RETURN;
        END IF;
        ns := factfold.take_lock(namespace_name, patience);
    END IF;

    -- From what was seen on upwards, so that no more than that of the index is read.
    SELECT e.position, e.id, greatest(clock_timestamp(), e.recorded_at),
        EXISTS (SELECT FROM factfold.voids AS v WHERE v.namespace = ns AND v.id = ids[1]),
        (SELECT p.value FROM factfold.places AS p WHERE p.namespace = ns AND p.place = 'inline' AND p.key = '' LIMIT 1)
    INTO head_position, head_id, recorded, is_void, asked_inline
    FROM factfold.events AS e
    WHERE e.namespace = ns AND e.position >= seen_position ORDER BY e.position DESC LIMIT 1;
    IF head_position IS DISTINCT FROM seen_position OR head_id IS DISTINCT FROM seen_id OR is_void
        OR asked_inline IS NOT NULL OR inline IS NOT NULL OR empty_streams IS NOT NULL
    THEN
        IF head_position IS NULL THEN  -- the log is empty, or shorter than it was
            SELECT coalesce(e.position, 0), e.id, greatest(clock_timestamp(), e.recorded_at),
                EXISTS (SELECT FROM factfold.voids AS v WHERE v.namespace = ns AND v.id = ids[1]),
                (
                    SELECT p.value FROM factfold.places AS p
                    WHERE p.namespace = ns AND p.place = 'inline' AND p.key = '' LIMIT 1
                )
            INTO head_position, head_id, recorded, is_void, asked_inline
            FROM (SELECT) AS always LEFT JOIN LATERAL (
                SELECT e.position, e.id, e.recorded_at
                FROM factfold.events AS e WHERE e.namespace = ns ORDER BY e.position DESC LIMIT 1
            ) AS e ON true;
        END IF;
        IF is_void THEN
            RETURN NEXT factfold.verdict('void', head_position, head_id);
            RETURN;
        END IF;
        IF head_position > seen_position THEN
            has_failed :=
                factfold.touched(ns, seen_position, head_position, asked, asked_types, asked_versions) <> '{}';
        ELSE
            has_failed := head_position < seen_position OR head_id IS DISTINCT FROM seen_id;
        END IF;
        IF has_failed OR factfold.with_events(ns, empty_streams) <> '{}' THEN
            RETURN QUERY SELECT * FROM factfold.refusal(
                ns, after_position, after_id, asked, asked_types, asked_versions, empty_streams
            );
            RETURN;
        END IF;
        IF asked_inline IS DISTINCT FROM inline THEN
            RETURN NEXT ROW(
                -1, head_position, head_id, 'inline', NULL, encode(asked_inline, 'hex'), NULL, NULL, NULL
            )::factfold.answer;
            RETURN;
        END IF;
        IF inline IS NOT NULL THEN
            PERFORM factfold.stay_open(patience);
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
        IF actual_versions <> written_versions THEN
            SELECT jsonb_object_agg(w.stream, w.actual - coalesce(w.believed, 0)) INTO shift
            FROM (
                SELECT unnest(written) AS stream, unnest(actual_versions) AS actual,
                    unnest(written_versions) AS believed
            ) AS w
            WHERE w.actual <> coalesce(w.believed, 0);
        END IF;
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

    IF cardinality(member_streams) = 1 THEN
        INSERT INTO factfold.events (namespace, type_version, position, recorded_at, id, type, data, metadata, streams)
        VALUES (
            ns, type_versions[1], head_position + 1, recorded, ids[1], types[1], data[1], metadata[1], streams[1]
        );
        INSERT INTO factfold.memberships (namespace, stream, version, position, type)
        VALUES (ns, member_streams[1], member_versions[1], head_position + 1, types[1]);
    ELSE
        INSERT INTO factfold.events (namespace, type_version, position, recorded_at, id, type, data, metadata, streams)
        SELECT ns, unnest(type_versions), generate_series(head_position + 1, head_position + cardinality(ids)),
            recorded, unnest(ids), unnest(types), unnest(data), unnest(metadata), unnest(streams);
        INSERT INTO factfold.memberships (namespace, stream, version, position, type)
        SELECT ns, m.stream, m.version, head_position + coalesce(m.event, m.index), m.type
        FROM (
            SELECT unnest(member_streams) AS stream, unnest(member_versions) AS version,
                unnest(coalesce(member_types, types)) AS type, unnest(member_events) AS event,
                generate_series(1, cardinality(member_streams)) AS index
        ) AS m;
    END IF;

    IF head_position > after_position THEN
        RETURN QUERY SELECT * FROM factfold.news(ns, after_position, head_position);
    END IF;
    RETURN NEXT ROW(
        -1, head_position, head_id, 'appended', NULL, NULL, array_to_json(actual_versions)::text, NULL, recorded
    )::factfold.answer;
END
$$;
