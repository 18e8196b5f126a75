-- Several nodes share the users and one connection to the exchange's feed. A node's epoch is unlike that
-- of any other process, of whatever node: it owns the user partitions whose current row in `projection`
-- has it, for as long as its lease runs.

ALTER TABLE nodes
    -- Where the other nodes reach it, and whether it shares users with them.
    ADD COLUMN peer_address text COLLATE "C",
    ADD COLUMN is_member boolean NOT NULL DEFAULT false,
    -- It is to hand over what it has, and to take nothing more.
    ADD COLUMN is_draining boolean NOT NULL DEFAULT false;

CREATE SEQUENCE node_epochs;

-- What one node at a time may do: follow the exchange's feed.
CREATE TABLE leases (
    name        text COLLATE "C" PRIMARY KEY,
    node_id     smallint NOT NULL REFERENCES nodes (node_id),
    -- Counts the holders. What an earlier one still does can be told by it.
    epoch       bigint NOT NULL CHECK (epoch > 0),
    -- By the clock of this server.
    lease_until timestamptz NOT NULL
);

-- The epoch that the owner of a partition hands it over to: that node may take it at once.
ALTER TABLE projection ADD COLUMN handed_to bigint;

-- Moves an epoch on: these of its partitions, each from where the writer knows it. Fails where the epoch
-- does not own a partition any more, and where a partition is elsewhere: then a transaction that its
-- writer has lost sight of was committed after all.
CREATE OR REPLACE FUNCTION advance_projection(
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
        WHERE is_current AND epoch <> writer_epoch AND user_partition = ANY (touched);
    IF FOUND THEN
        RAISE EXCEPTION 'epoch % may not write any more', writer_epoch USING ERRCODE = 'LB001';
    END IF;
    RAISE EXCEPTION 'the partitions are not where epoch % has left them', writer_epoch
        USING ERRCODE = 'LB002';
END
$$;

-- The open orders of a partition, for the node that takes it over. No update of an order touches its column.
CREATE INDEX orders_open_of_partition ON orders (user_partition)
    WHERE ending IS NULL AND filled_shares < num_shares;

-- Orders that need to be looked at although they have ended: few.
CREATE INDEX orders_attended ON orders (user_partition)
    WHERE ending IN ('rejected', 'not_accepted', 'failed_by_operator') OR open_cases IS NOT NULL;

-- What happened lately. Rows are added in the order of their times, so their blocks are told apart by them.
CREATE INDEX order_events_at ON order_events USING brin (at) WITH (autosummarize = on);

-- A user's own key of an order: a node that has taken over a user's partition asks here.
CREATE INDEX orders_client_order_id ON orders (user_id, client_order_id)
    WHERE client_order_id IS NOT NULL;
