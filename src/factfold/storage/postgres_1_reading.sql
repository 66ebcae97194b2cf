-- Version 1 of factfold's schema in PostgreSQL: the functions that read. Each sees one snapshot.

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

-- The events of several selections, each above a version: in slots 1, 2, ..., at most `room` in all. Where they do not
-- fit in, one more than does is given, which tells that there is more. `after_position` is NULL when no news are asked
-- for.
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
                SELECT wanted.index, e.position, e.id, e.type, e.type_version, e.data::text, e.metadata::text,
                    e.streams, e.recorded_at
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
        IF last IS NOT NULL THEN
            RETURN NEXT ROW(wanted.index, last, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::factfold.answer;
        END IF;
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

-- A part of the log: up to `size` events above `above`, or below it when `backwards`, looking at no more than `reach`
-- positions: so that an answer is not long in coming, however rare is what is asked for. `types` NULL: of all types.
-- `first` and `later`: how the JSON of the first, or of a later, stream of the category begins; NULL: of all
-- categories. (A quotation mark inside an id is escaped, so that these texts occur nowhere else.)
CREATE FUNCTION factfold.read_log(
    namespace_name text, above bigint, size integer, types text[], system boolean, first text, later text,
    backwards boolean, reach bigint
) RETURNS SETOF factfold.answer LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
    last bigint;
BEGIN
    SELECT n.id INTO ns FROM factfold.namespaces AS n WHERE n.name = namespace_name;
    SELECT e.position INTO last FROM factfold.events AS e WHERE e.namespace = ns ORDER BY e.position DESC LIMIT 1;
    last := coalesce(last, 0);
    IF backwards THEN
        above := least(above, last + 1);
        RETURN QUERY
            SELECT 1, e.position, e.id, e.type, e.type_version, e.data::text, e.metadata::text, e.streams, e.recorded_at
            FROM factfold.events AS e
            WHERE e.namespace = ns AND e.position < above AND e.position >= above - reach
                AND (types IS NULL OR e.type = ANY (types))
                AND (system OR NOT starts_with(e.type, '$'))
                AND (first IS NULL OR starts_with(e.streams, first) OR strpos(e.streams, later) > 0)
            ORDER BY e.position DESC LIMIT size;
    ELSE
        above := least(above, last);
        RETURN QUERY
            SELECT 1, e.position, e.id, e.type, e.type_version, e.data::text, e.metadata::text, e.streams, e.recorded_at
            FROM factfold.events AS e
            WHERE e.namespace = ns AND e.position > above AND e.position <= above + reach
                AND (types IS NULL OR e.type = ANY (types))
                AND (system OR NOT starts_with(e.type, '$'))
                AND (first IS NULL OR starts_with(e.streams, first) OR strpos(e.streams, later) > 0)
            ORDER BY e.position LIMIT size;
    END IF;
    RETURN NEXT factfold.verdict('read', last, NULL);
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

-- Up to `size` streams from `start` on, above `above` and, unless it is NULL, below `below`: jumps from stream to
-- stream, however many events each has.
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

-- Small values of a place, those that there are of these keys.
CREATE FUNCTION factfold.get(namespace_name text, in_place text, with_keys text[])
RETURNS TABLE (key text, value bytea) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
BEGIN
    SELECT n.id INTO ns FROM factfold.namespaces AS n WHERE n.name = namespace_name;
    RETURN QUERY
        SELECT p.key, p.value
        FROM unnest(with_keys) AS w (key) CROSS JOIN LATERAL (
            SELECT p.key, p.value
            FROM factfold.places AS p
            WHERE p.namespace = ns AND p.place = in_place AND p.key = w.key
            LIMIT 1
        ) AS p;
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
