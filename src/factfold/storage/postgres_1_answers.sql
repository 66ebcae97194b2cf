-- Version 1 of factfold's schema in PostgreSQL: how answers look, and what the functions that write and read share.
--
-- Every operation is one call of one function, and so one round trip. Functions that write are VOLATILE: each of their
-- statements sees what was committed before it, so that what is read after the lock is held is the truth (at READ
-- COMMITTED). Functions that read are STABLE: all of their statements see one snapshot.
--
-- A plan that was made while a table was small must still be right when it is large. So every statement walks an index
-- of its table, whatever the planner knows of it, and the settings at the head of each function that is called from
-- outside leave it no other choice. Parallel arrays are unnested side by side in a select list, which keeps their
-- order.

-- A row of an answer: an event, or what there is to say beside the events.
--
-- Slot 0 holds the news (what others appended), slots 1, 2, ... what was asked for under these numbers. In these slots
-- a row without a type says how long a stream is, if it is there: its version is in `position`. The last row of an
-- answer has slot -1: its `type` is the verdict, `position` and `id` are the head (in an answer 'diverged', what was
-- found in its place), `data` are the indices of the selections that are touched, counted from 1, and `metadata` the
-- versions that the streams of an append had before, where the asker may have been wrong about them; both as JSON
-- arrays.
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

-- The events above `above` and up to `upto`, as news. Fewer than these: they are too many, or too many bytes, to be
-- told.
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

-- What was appended above `after` (the news, when these are to be told), and which selections it touches. The verdict
-- is 'same' (nothing was), 'moved', or 'diverged' (another event, or none, stands at `after`).
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
