-- Version 2 of factfold's schema in PostgreSQL: transactions that stay open while others change their read models.

-- What a transaction begins with that stays open between two statements. The server ends it when it stands still for too
-- long. The mark is gone with the transaction.
CREATE FUNCTION factfold.stay_open(patience integer) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('idle_in_transaction_session_timeout', patience::text, true);
    PERFORM set_config('factfold_transaction.is_open', 'yes', true);
END
$$;

-- Raises an error in another transaction than the one that was to stay open: so what is committed is that one.
CREATE FUNCTION factfold.finish() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('factfold_transaction.is_open', true) IS DISTINCT FROM 'yes' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_transaction_termination', MESSAGE = 'this is another transaction than the one begun';
    END IF;
END
$$;

-- Swaps small values in a transaction that stays open. `exclusive`: nobody appends until its end.
CREATE FUNCTION factfold.transact(
    namespace_name text, patience integer, exclusive boolean, expected bytea, in_places text[], of_keys text[],
    new_values bytea[]
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM factfold.stay_open(patience);
    IF exclusive THEN
        PERFORM factfold.take_lock(namespace_name, patience);
    END IF;
    RETURN factfold.swap(namespace_name, patience, expected, in_places, of_keys, new_values);
END
$$;
