-- Version 3 of factfold's schema in PostgreSQL: appends that say which streams must be empty.

-- Who does not know of that must not write.
DROP FUNCTION factfold.append(
    text, integer, bigint, uuid, text[], text[], bigint[], uuid[], text[], integer[], jsonb[], jsonb[], text[], text[],
    text[], bigint[], integer[], text[], bigint[], bytea
);

-- Those of the streams that have an event.
CREATE FUNCTION factfold.with_events(ns integer, given text[]) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY(
        SELECT s.stream FROM unnest(given) AS s (stream)
        WHERE EXISTS (SELECT FROM factfold.memberships AS m WHERE m.namespace = ns AND m.stream = s.stream)
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
-- `after`, and if those in `empty_streams` have no event at all. `asked_versions` are the versions that the streams of
-- the selections had at `after`, as far as they are known, else 0.
--
-- The arrays of events are parallel, and so are those of memberships; `member_events` counts the events from 1. All
-- versions in `streams` and `member_versions` rest on `written_versions`, those that the streams in `written` are
-- believed to have before (NULL: not known, taken for 0). Where that is wrong, all of them are shifted.
--
-- `inline` are the inline projections that the writer runs, NULL where it runs none. A writer that runs some writes on in
-- the transaction, which stays open.
--
-- The verdict is 'appended' (behind the head that it tells), 'void', 'moved' or 'same' (it failed), 'diverged', or
-- 'inline': the database asks for other projections, which `data` names as hexadecimal digits. Where it failed, `streams`
-- are those of `empty_streams` that have events, as a JSON array.
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
    seen record;
    head_position bigint;
    head_id uuid;
    recorded timestamptz;
    is_void boolean;
    asked_inline bytea;
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
            RETURN QUERY SELECT * FROM factfold.refusal(
                ns, after_position, after_id, asked, asked_types, asked_versions, empty_streams
            );
            RETURN;
        END IF;
        seen_position := seen.position;
        seen_id := seen.id;
    END IF;

    ns := factfold.take_lock(namespace_name, patience);
    SELECT e.position, e.id, e.recorded_at INTO head_position, head_id, recorded
    FROM factfold.events AS e WHERE e.namespace = ns ORDER BY e.position DESC LIMIT 1;
    head_position := coalesce(head_position, 0);
    SELECT
        EXISTS (SELECT FROM factfold.voids AS v WHERE v.namespace = ns AND v.id = ids[1]),
        (SELECT p.value FROM factfold.places AS p WHERE p.namespace = ns AND p.place = 'inline' AND p.key = '' LIMIT 1)
    INTO is_void, asked_inline;
    IF is_void THEN
        RETURN NEXT factfold.verdict('void', head_position, head_id);
        RETURN;
    END IF;
    IF head_position <> seen_position OR head_id IS DISTINCT FROM seen_id THEN
        IF head_position <= seen_position
            OR factfold.touched(ns, seen_position, head_position, asked, asked_types, asked_versions) <> '{}'
        THEN
            RETURN QUERY SELECT * FROM factfold.refusal(
                ns, after_position, after_id, asked, asked_types, asked_versions, empty_streams
            );
            RETURN;
        END IF;
    END IF;

    IF empty_streams <> '{}' AND factfold.with_events(ns, empty_streams) <> '{}' THEN
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
