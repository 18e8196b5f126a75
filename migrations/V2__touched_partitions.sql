-- Makes the partition of a day, counted from 1970-01-01 UTC, unless it is there. It is made before it
-- is attached, so that readers of the others go on meanwhile. Two that want the same take turns: by the
-- lock of the table, since whoever gets that sees what the other has made. (An advisory lock, as in
-- version 1, lets the second one go on with what it knew before, and fail.)
CREATE OR REPLACE FUNCTION make_order_events_partition(day integer) RETURNS void LANGUAGE plpgsql AS $$
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
    EXECUTE format('ALTER TABLE order_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, first_date::timestamp AT TIME ZONE 'UTC', (first_date + 1)::timestamp AT TIME ZONE 'UTC');
END
$$;

-- Moves an epoch on: these of its partitions, each from where the writer knows it. The others may stay
-- where they are as long as nothing has happened there, since each is told apart. Fails where the epoch is
-- no longer the newest, and where a partition is elsewhere: then a transaction that its writer has lost
-- sight of was committed after all.
DROP FUNCTION advance_projection(smallint, smallint, bigint, bigint);

CREATE FUNCTION advance_projection(
    touched smallint[], known bigint[], writer_epoch bigint, reached bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved integer;
BEGIN
    UPDATE projection SET lsn = greatest(lsn, reached), updated_at = now()
        FROM unnest(touched, known) AS own (number, place)
        WHERE is_current AND epoch = writer_epoch AND user_partition = number AND lsn = place;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved = cardinality(touched) THEN
        RETURN;
    END IF;
    PERFORM FROM projection
        WHERE is_current AND epoch > writer_epoch AND user_partition = ANY (touched);
    IF FOUND THEN
        RAISE EXCEPTION 'epoch % may not write any more', writer_epoch USING ERRCODE = 'LB001';
    END IF;
    RAISE EXCEPTION 'the partitions are not where epoch % has left them', writer_epoch
        USING ERRCODE = 'LB002';
END
$$;
