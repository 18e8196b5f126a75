-- Which version of an order was copied here by `longbow backfill` although its earlier ones are not all in
-- order_events: none up to it need be there, all behind it have to. No change of an order touches this.
ALTER TABLE orders ADD COLUMN copied_version bigint;

-- What was copied before this was written down.
UPDATE orders SET copied_version = version
    FROM (SELECT user_partition AS number, max(orders_copied_at) AS copied_at FROM projection
        WHERE orders_copied_at IS NOT NULL GROUP BY user_partition) AS copies
    WHERE user_partition = number AND created_at <= copied_at;

-- From when on order_events is kept. No row: from the beginning.
CREATE TABLE order_events_kept (
    is_only   boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    kept_from timestamptz NOT NULL
);

-- A trigger on TRUNCATE watches its own table only, not the partitions of that.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'order_events'::regclass LOOP
        EXECUTE format('CREATE TRIGGER order_events_not_emptied BEFORE TRUNCATE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', part);
    END LOOP;
END
$$;

-- As before, and with that trigger. It makes tables by the rights of their owner, so that whoever writes
-- needs none to make tables.
CREATE OR REPLACE FUNCTION make_order_events_partition(day integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    first_date date := date '1970-01-01' + day;
    name       text := 'order_events_' || to_char(first_date, 'YYYYMMDD');
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    LOCK TABLE ONLY order_events IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE order_events INCLUDING CONSTRAINTS)', name);
    EXECUTE format('CREATE TRIGGER order_events_not_emptied BEFORE TRUNCATE ON %I '
        'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
    EXECUTE format('ALTER TABLE order_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, first_date::timestamp AT TIME ZONE 'UTC', (first_date + 1)::timestamp AT TIME ZONE 'UTC');
END
$$;

-- Takes all days before this one (UTC) out of order_events, and writes down from when on it is kept. Gives
-- the names of their tables, which are dropped or left beside it.
CREATE FUNCTION forget_order_events(first_kept date, is_dropped boolean) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    part text;
BEGIN
    IF first_kept > (now() AT TIME ZONE 'UTC')::date THEN
        RAISE EXCEPTION 'the day before % is not over: order_events is kept from today on at least', first_kept
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO order_events_kept (kept_from) VALUES (first_kept::timestamp AT TIME ZONE 'UTC')
        ON CONFLICT (is_only) DO UPDATE
            SET kept_from = greatest(order_events_kept.kept_from, excluded.kept_from);
    FOR part IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'order_events'::regclass AND relname ~ '^order_events_[0-9]{8}$'
            AND relname < 'order_events_' || to_char(first_kept, 'YYYYMMDD')
        ORDER BY relname
    LOOP
        EXECUTE format('ALTER TABLE order_events DETACH PARTITION %I', part);
        IF is_dropped THEN
            EXECUTE format('DROP TABLE %I', part);
        END IF;
        RETURN NEXT part;
    END LOOP;
END
$$;

CREATE FUNCTION drop_order_events_before(first_kept date) RETURNS SETOF text
LANGUAGE sql AS $$ SELECT forget_order_events(first_kept, true) $$;

CREATE FUNCTION detach_order_events_before(first_kept date) RETURNS SETOF text
LANGUAGE sql AS $$ SELECT forget_order_events(first_kept, false) $$;

-- They find their tables whoever calls them, and are the owner's, who grants what others need.
DO $$
DECLARE
    called text;
BEGIN
    FOREACH called IN ARRAY ARRAY['make_order_events_partition(integer)', 'forget_order_events(date, boolean)',
        'drop_order_events_before(date)', 'detach_order_events_before(date)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', called, current_schema());
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', called);
    END LOOP;
END
$$;

CREATE OR REPLACE VIEW analysis.order_events AS
    SELECT at, order_id, version, event, status, filled_shares, user_id, external_order_id,
        execution_id, execution_shares, execution_price_cents, executed_at, reason
    FROM public.order_events
    WHERE at >= coalesce((SELECT kept_from FROM public.order_events_kept), '-infinity');

-- No row: from the beginning.
CREATE VIEW analysis.order_events_kept AS SELECT kept_from FROM public.order_events_kept;
