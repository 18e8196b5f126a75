-- What Longbow keeps in Postgres. Written by the projection alone; everybody else reads.
-- Ids compare byte by byte: faster than by language, and the same on every machine.

-- What holds of every order. As functions, because Postgres reads the text of each CHECK again for each
-- statement and partition: with the conditions written out there, that alone took half of the time of a
-- small transaction.
CREATE FUNCTION order_terms_are_valid(
    user_partition smallint, symbol text, side text, time_in_force text, limit_price_cents bigint,
    num_shares bigint
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN user_partition BETWEEN 0 AND 63
        AND symbol <> ''
        AND side IN ('buy', 'sell')
        AND time_in_force IN ('day', 'gtc')
        -- A market order has none.
        AND (limit_price_cents IS NULL OR limit_price_cents > 0)
        AND num_shares > 0;
END
$$;

CREATE FUNCTION order_status_follows(
    status text, ending text, num_shares bigint, filled_shares bigint, over_filled boolean,
    external_order_id text, cancel_requested boolean, version bigint
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN filled_shares >= 0
        -- The exchange has filled more than was ordered: it happens, is recorded and never clipped.
        AND over_filled = (filled_shares > num_shares)
        AND (ending IS NULL OR ending IN (
            'rejected', 'not_accepted', 'cancelled_by_user', 'cancelled_by_exchange', 'expired'
        ))
        AND status = CASE
            WHEN ending IN ('rejected', 'not_accepted') THEN 'failed'
            WHEN filled_shares >= num_shares THEN 'filled'
            WHEN ending IS NOT NULL THEN 'cancelled'
            WHEN external_order_id IS NULL AND filled_shares = 0 THEN 'pending'
            WHEN cancel_requested THEN 'pending_cancel'
            WHEN filled_shares > 0 THEN 'partially_filled'
            ELSE 'submitted'
        END
        -- An ended order waits for no cancel.
        AND NOT (cancel_requested AND status IN ('filled', 'cancelled', 'failed'))
        AND version > 0;
END
$$;

CREATE FUNCTION execution_counts_or_is_void(
    user_partition smallint, num_shares bigint, price_cents bigint, executed_at timestamptz,
    busted_at timestamptz
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN user_partition BETWEEN 0 AND 63
        AND (num_shares IS NULL OR num_shares > 0)
        AND (price_cents IS NULL OR price_cents > 0)
        AND (busted_at IS NOT NULL
            OR (num_shares IS NOT NULL AND price_cents IS NOT NULL AND executed_at IS NOT NULL));
END
$$;

-- An order as it stands. A row is replaced only by one of a higher version.
CREATE TABLE orders (
    user_id            text COLLATE "C" NOT NULL,
    order_id           uuid NOT NULL,
    -- The user's partition inside the engine, of 64. Not the partition of this table.
    user_partition     smallint NOT NULL,
    client_order_id    text COLLATE "C",
    external_order_id  text COLLATE "C",
    symbol             text COLLATE "C" NOT NULL,
    position           text COLLATE "C" NOT NULL,
    time_in_force      text COLLATE "C" NOT NULL,
    limit_price_cents  bigint,
    num_shares         bigint NOT NULL,
    -- Sum of the executions that count.
    filled_shares      bigint NOT NULL,
    filled_value_cents bigint NOT NULL,
    over_filled        boolean NOT NULL,
    status             text COLLATE "C" NOT NULL,
    -- Why it failed or was cancelled, where that is not its user's own doing.
    reason             text,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    -- What the exchange has not accepted by then it never will.
    submit_before      timestamptz NOT NULL,
    version            bigint NOT NULL,
    -- What the engine needs beside the status to go on with an order.
    ending             text COLLATE "C",
    cancel_requested   boolean NOT NULL,
    user_cancelled     boolean NOT NULL,
    taken_back         boolean NOT NULL,
    PRIMARY KEY (user_id, order_id),
    CONSTRAINT terms_are_valid CHECK (order_terms_are_valid(
        user_partition, symbol, position, time_in_force, limit_price_cents, num_shares
    )),
    CONSTRAINT status_follows_from_facts CHECK (order_status_follows(
        status, ending, num_shares, filled_shares, over_filled, external_order_id, cancel_requested,
        version
    ))
) PARTITION BY HASH (user_id);

-- A user's orders, newest first, are the primary key read backwards: order ids rise with time.
-- Open orders, of a user or of everybody: analysis.open_orders asks so. Said by what seldom changes: an
-- update that leaves a row where it is in every index is several times cheaper (a HOT update), and most
-- updates are of the status of an order that stays open.
CREATE INDEX orders_open ON orders (user_id, order_id)
    WHERE ending IS NULL AND filled_shares < num_shares;

-- The distinct executions of each order. One that was declared void before it was seen has neither
-- shares nor price.
CREATE TABLE executions (
    user_id        text COLLATE "C" NOT NULL,
    order_id       uuid NOT NULL,
    execution_id   text COLLATE "C" NOT NULL,
    user_partition smallint NOT NULL,
    num_shares     bigint,
    price_cents    bigint,
    -- When the exchange made it; when it was noted here; when it was noted that it is void.
    executed_at    timestamptz,
    recorded_at    timestamptz NOT NULL,
    busted_at      timestamptz,
    PRIMARY KEY (user_id, order_id, execution_id),
    CONSTRAINT counts_or_is_void CHECK (execution_counts_or_is_void(
        user_partition, num_shares, price_cents, executed_at, busted_at
    ))
) PARTITION BY HASH (user_id);

-- Whose order an id of the exchange means.
CREATE TABLE external_orders (
    external_order_id text COLLATE "C" PRIMARY KEY,
    user_id           text COLLATE "C" NOT NULL,
    order_id          uuid NOT NULL
) PARTITION BY HASH (external_order_id);

DO $$
BEGIN
    FOR part IN 0..63 LOOP
        EXECUTE format(
            -- Room for the next version of a row beside it.
            'CREATE TABLE orders_p%s PARTITION OF orders FOR VALUES WITH (MODULUS 64, REMAINDER %s) '
                'WITH (fillfactor = 80)',
            to_char(part, 'FM00'), part);
        EXECUTE format(
            'CREATE TABLE executions_p%s PARTITION OF executions FOR VALUES WITH (MODULUS 64, REMAINDER %s)',
            to_char(part, 'FM00'), part);
    END LOOP;
    FOR part IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE external_orders_p%s PARTITION OF external_orders FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
            to_char(part, 'FM00'), part);
    END LOOP;
END
$$;

-- Everything that ever happened to an order, one row a version: the audit log. The projection makes
-- the partitions of the days, named order_events_YYYYMMDD (UTC), ahead of their time.
CREATE TABLE order_events (
    at                    timestamptz NOT NULL,
    order_id              uuid NOT NULL,
    -- The order's version, status and filled shares after it.
    version               bigint NOT NULL,
    status                text COLLATE "C" NOT NULL,
    filled_shares         bigint NOT NULL,
    user_id               text COLLATE "C" NOT NULL,
    user_partition        smallint NOT NULL,
    event                 text COLLATE "C" NOT NULL CHECK (event IN (
        'created', 'accepted', 'rejected', 'not_accepted', 'cancel_requested', 'cancelled',
        'cancel_rejected', 'filled', 'busted'
    )),
    external_order_id     text COLLATE "C",
    execution_id          text COLLATE "C",
    execution_shares      bigint,
    execution_price_cents bigint,
    executed_at           timestamptz,
    reason                text,
    -- Which record of which write-ahead log it was.
    log_id                bigint NOT NULL,
    lsn                   bigint NOT NULL,
    PRIMARY KEY (order_id, version, at)
) PARTITION BY RANGE (at);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'order_events is append-only: % is not allowed', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER order_events_append_only BEFORE UPDATE OR DELETE ON order_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER order_events_not_emptied BEFORE TRUNCATE ON order_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Makes the partition of a day, counted from 1970-01-01 UTC, unless it is there. It is made before it
-- is attached, so that readers of the others go on meanwhile. Two that want the same take turns.
CREATE FUNCTION make_order_events_partition(day integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first_date date := date '1970-01-01' + day;
    name       text := 'order_events_' || to_char(first_date, 'YYYYMMDD');
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('make_order_events_partition', 0));
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE order_events INCLUDING CONSTRAINTS)', name);
    EXECUTE format('ALTER TABLE order_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, first_date::timestamp AT TIME ZONE 'UTC', (first_date + 1)::timestamp AT TIME ZONE 'UTC');
END
$$;

-- How far the write-ahead log has come here: everything of a user partition up to the record is in
-- the tables above. An epoch is one start of a projection; only the newest one may write.
CREATE TABLE projection (
    user_partition smallint NOT NULL CHECK (user_partition BETWEEN 0 AND 63),
    epoch          bigint NOT NULL CHECK (epoch > 0),
    log_id         bigint NOT NULL,
    lsn            bigint NOT NULL CHECK (lsn >= 0),
    is_current     boolean NOT NULL,
    updated_at     timestamptz NOT NULL,
    -- Of an epoch that began with a copy of all orders: when that was. What had happened before to
    -- orders that are older is in order_events only as far as the log still had it.
    orders_copied_at timestamptz,
    PRIMARY KEY (user_partition, epoch)
    -- Each transaction of the projection updates 64 rows of it in place.
) WITH (fillfactor = 40);

CREATE UNIQUE INDEX projection_current ON projection (user_partition) WHERE is_current;

-- Moves an epoch on. Where it is no longer the newest the transaction fails, so that whoever writes need
-- not wait for this answer before the commit.
CREATE FUNCTION advance_projection(
    first_partition smallint, last_partition smallint, writer_epoch bigint, reached bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved integer;
BEGIN
    UPDATE projection SET lsn = greatest(lsn, reached), updated_at = now()
        WHERE is_current AND epoch = writer_epoch
            AND user_partition BETWEEN first_partition AND last_partition;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> last_partition - first_partition + 1 THEN
        RAISE EXCEPTION 'epoch % may not write any more', writer_epoch USING ERRCODE = 'LB001';
    END IF;
END
$$;

-- How far the exchange's feed has been taken, for a restore.
CREATE TABLE feed_position (
    is_only  boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    session  text COLLATE "C" NOT NULL,
    sequence numeric NOT NULL,
    at       timestamptz NOT NULL,
    log_id   bigint NOT NULL,
    lsn      bigint NOT NULL
);

-- For analysts: names without the engine's own columns, and what the rows add up to.
CREATE SCHEMA analysis;

CREATE VIEW analysis.orders AS
    SELECT order_id, user_id, client_order_id, external_order_id, symbol, position,
        CASE WHEN limit_price_cents IS NULL THEN 'market' ELSE 'limit' END AS type,
        time_in_force, limit_price_cents, num_shares, filled_shares, filled_value_cents,
        CASE WHEN filled_shares > 0 THEN filled_value_cents::numeric / filled_shares END
            AS average_price_cents,
        status, reason, created_at, updated_at, version
    FROM public.orders;

CREATE VIEW analysis.open_orders AS
    SELECT order_id, user_id, client_order_id, external_order_id, symbol, position, time_in_force,
        limit_price_cents, num_shares, filled_shares, status, created_at, updated_at, version
    FROM public.orders
    WHERE ending IS NULL AND filled_shares < num_shares;

CREATE VIEW analysis.executions AS
    SELECT execution.execution_id, execution.order_id, execution.user_id, orders.symbol,
        orders.position, execution.num_shares, execution.price_cents, execution.executed_at,
        execution.recorded_at, execution.busted_at
    FROM public.executions AS execution
    JOIN public.orders USING (user_id, order_id);

CREATE VIEW analysis.positions AS
    SELECT user_id, symbol,
        sum(CASE position WHEN 'buy' THEN filled_shares ELSE -filled_shares END) AS num_shares
    FROM public.orders
    WHERE filled_shares > 0
    GROUP BY user_id, symbol;

CREATE VIEW analysis.order_events AS
    SELECT at, order_id, version, event, status, filled_shares, user_id, external_order_id,
        execution_id, execution_shares, execution_price_cents, executed_at, reason
    FROM public.order_events;

-- The role belongs to the whole server, and not everybody may make one: without it an administrator
-- runs these three statements later.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'longbow_reader') THEN
        CREATE ROLE longbow_reader NOLOGIN;
    END IF;
    GRANT USAGE ON SCHEMA analysis TO longbow_reader;
    GRANT SELECT ON ALL TABLES IN SCHEMA analysis TO longbow_reader;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'longbow_reader was not made: this user may not create roles';
END
$$;
