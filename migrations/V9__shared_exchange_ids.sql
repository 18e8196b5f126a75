-- Orders that share an id of the exchange, which it should give only once a day: lines and cancels under it
-- may mean any of them. The nodes of a deployment tell each other here, since none of them has all orders.
CREATE TABLE shared_external_orders (
    external_order_id text COLLATE "C" NOT NULL,
    user_id           text COLLATE "C" NOT NULL,
    order_id          uuid NOT NULL,
    -- By the clock of this server.
    noted_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Whoever follows the table goes on from the oldest transaction that was underway.
    written_by        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (external_order_id, order_id)
);

CREATE INDEX shared_external_orders_written_by ON shared_external_orders (written_by);
