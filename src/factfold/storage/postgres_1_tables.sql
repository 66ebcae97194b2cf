-- Version 1 of factfold's schema in PostgreSQL: the tables, a view for people, and what keeps the log as it is.
--
-- `factfold` stands for the schema's name. Every namespace is one log. Its row in `namespaces` is the writers' lock:
-- `SELECT ... FOR UPDATE` on it, and it is never updated. Whoever holds it reads the head and appends right behind it,
-- so that positions are dense and in commit order.

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
    SELECT n.name AS namespace, e.position, e.type, e.data, e.streams::jsonb AS streams, e.metadata, e.recorded_at,
        e.id, e.type_version
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
