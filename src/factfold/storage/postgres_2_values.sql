-- Version 2 of factfold's schema in PostgreSQL: when small values were written, and values that are swapped.

-- A default that is the same for all rows does not rewrite them.
ALTER TABLE factfold.places ADD COLUMN written_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE factfold.places ALTER COLUMN written_at DROP DEFAULT;

-- Writes a small value, or removes it when it is NULL.
CREATE OR REPLACE FUNCTION factfold.put(namespace_name text, put_place text, put_key text, put_value bytea) RETURNS void
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    IF put_value IS NULL THEN
        DELETE FROM factfold.places AS p USING factfold.namespaces AS n
        WHERE n.name = namespace_name AND p.namespace = n.id AND p.place = put_place AND p.key = put_key;
    ELSE
        INSERT INTO factfold.places (namespace, place, key, value, written_at)
        SELECT n.id, put_place, put_key, put_value, clock_timestamp()
        FROM factfold.namespaces AS n WHERE n.name = namespace_name
        ON CONFLICT (namespace, place, key) DO UPDATE SET value = excluded.value, written_at = excluded.written_at;
    END IF;
END
$$;

-- Writes small values, or removes those that are NULL, if the first of them is what is `expected` (NULL: not there).
-- False: it is not. Who else has written the first one, and not committed yet, is waited for: its row is the fence.
CREATE FUNCTION factfold.swap(
    namespace_name text, patience integer, expected bytea, in_places text[], of_keys text[], new_values bytea[]
) RETURNS boolean LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    ns integer;
    other record;
BEGIN
    PERFORM set_config('lock_timeout', patience::text, true);
    SELECT n.id INTO ns FROM factfold.namespaces AS n WHERE n.name = namespace_name;
    IF ns IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = 'the namespace is not in the database any more';
    END IF;
    IF expected IS NULL AND new_values[1] IS NULL THEN
        IF EXISTS (
            SELECT FROM factfold.places AS p WHERE p.namespace = ns AND p.place = in_places[1] AND p.key = of_keys[1]
        ) THEN
            RETURN false;
        END IF;
    ELSE
        IF expected IS NULL THEN
            INSERT INTO factfold.places (namespace, place, key, value, written_at)
            VALUES (ns, in_places[1], of_keys[1], new_values[1], clock_timestamp())
            ON CONFLICT DO NOTHING;
        ELSIF new_values[1] IS NULL THEN
            DELETE FROM factfold.places AS p
            WHERE p.namespace = ns AND p.place = in_places[1] AND p.key = of_keys[1] AND p.value = expected;
        ELSE
            UPDATE factfold.places AS p SET value = new_values[1], written_at = clock_timestamp()
            WHERE p.namespace = ns AND p.place = in_places[1] AND p.key = of_keys[1] AND p.value = expected;
        END IF;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    -- In one order for all, so that none waits for another one that waits for it.
    FOR other IN
        SELECT o.place, o.key, o.value
        FROM (
            SELECT unnest(in_places) AS place, unnest(of_keys) AS key, unnest(new_values) AS value,
                generate_subscripts(of_keys, 1) AS index
        ) AS o
        WHERE o.index > 1
        ORDER BY o.place COLLATE "C", o.key COLLATE "C", o.index
    LOOP
        PERFORM factfold.put(namespace_name, other.place, other.key, other.value);
    END LOOP;
    RETURN true;
END
$$;

-- A page of the small values of a place: up to `size` whose key is above `above`; and how many microseconds old they
-- are.
CREATE FUNCTION factfold.entries(namespace_name text, in_place text, above text, size integer)
RETURNS TABLE (key text, value bytea, age bigint) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
        SELECT p.key, p.value, (extract(epoch FROM moment - p.written_at) * 1000000)::bigint
        FROM factfold.places AS p
        WHERE p.namespace = (SELECT n.id FROM factfold.namespaces AS n WHERE n.name = namespace_name)
            AND p.place = in_place AND p.key > above
        ORDER BY p.key LIMIT size;
END
$$;
