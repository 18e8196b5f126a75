-- For those who ask Postgres: the terms of an order where it was created, the symbol of an execution, orders by
-- their id alone, views by trading day, and what each column means.

-- Stored, so that an index can be limited by it and an update that fills an order, but leaves it open, changes
-- no column that an index looks at: such an update is a HOT one.
ALTER TABLE orders ADD COLUMN is_open boolean NOT NULL
    GENERATED ALWAYS AS (ending IS NULL AND filled_shares < num_shares) STORED;

DROP INDEX orders_open;
CREATE INDEX orders_open ON orders (user_id, order_id) WHERE is_open;
DROP INDEX orders_open_of_partition;
CREATE INDEX orders_open_of_partition ON orders (user_partition) WHERE is_open;

-- Without the user, whose hash says which table it is.
CREATE INDEX orders_by_id ON orders (order_id);
CREATE INDEX executions_by_id ON executions (execution_id);

ALTER TABLE executions ADD COLUMN symbol text COLLATE "C";
SET LOCAL enable_partitionwise_join = on;
UPDATE executions SET symbol = orders.symbol FROM orders
    WHERE orders.user_id = executions.user_id AND orders.order_id = executions.order_id;

-- Null in rows of before, which nobody may change, and in all but `created`.
ALTER TABLE order_events
    ADD COLUMN client_order_id text COLLATE "C",
    ADD COLUMN symbol text COLLATE "C",
    ADD COLUMN side text COLLATE "C",
    ADD COLUMN time_in_force text COLLATE "C",
    ADD COLUMN limit_price_cents bigint,
    ADD COLUMN num_shares bigint;

-- The day on which New York trades at a time.
CREATE FUNCTION analysis.trading_day(at timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT (at AT TIME ZONE 'America/New_York')::date $$;

CREATE OR REPLACE VIEW analysis.orders AS
    SELECT order_id, user_id, client_order_id, external_order_id, symbol, position,
        CASE WHEN limit_price_cents IS NULL THEN 'market' ELSE 'limit' END AS type,
        time_in_force, limit_price_cents, num_shares, filled_shares, filled_value_cents,
        CASE WHEN filled_shares > 0 THEN filled_value_cents::numeric / filled_shares END
            AS average_price_cents,
        status, reason, created_at, updated_at, version, position AS side, is_open
    FROM public.orders;

CREATE OR REPLACE VIEW analysis.open_orders AS
    SELECT order_id, user_id, client_order_id, external_order_id, symbol, position, time_in_force,
        limit_price_cents, num_shares, filled_shares, status, created_at, updated_at, version, position AS side
    FROM public.orders
    WHERE is_open;

CREATE OR REPLACE VIEW analysis.executions AS
    SELECT execution.execution_id, execution.order_id, execution.user_id, orders.symbol,
        orders.position, execution.num_shares, execution.price_cents, execution.executed_at,
        execution.recorded_at, execution.busted_at, orders.position AS side
    FROM public.executions AS execution
    JOIN public.orders USING (user_id, order_id);

CREATE OR REPLACE VIEW analysis.order_events AS
    SELECT at, order_id, version, event, status, filled_shares, user_id, external_order_id,
        execution_id, execution_shares, execution_price_cents, executed_at, reason,
        client_order_id, symbol, side, time_in_force, limit_price_cents, num_shares
    FROM public.order_events
    WHERE at >= coalesce((SELECT kept_from FROM public.order_events_kept), '-infinity');

CREATE VIEW analysis.external_orders AS
    SELECT external_order_id, user_id, order_id FROM public.external_orders;

CREATE VIEW analysis.daily_volume AS
    SELECT analysis.trading_day(executed_at) AS trading_day, symbol, count(*) AS executions,
        sum(num_shares) AS num_shares, sum(num_shares::numeric * price_cents) AS value_cents
    FROM public.executions
    WHERE busted_at IS NULL
    GROUP BY 1, 2;

CREATE VIEW analysis.fill_ratio AS
    SELECT analysis.trading_day(created_at) AS trading_day, symbol, count(*) AS orders,
        count(*) FILTER (WHERE status = 'filled') AS filled_orders,
        sum(num_shares) AS ordered_shares, sum(filled_shares) AS filled_shares,
        sum(filled_shares) / sum(num_shares) AS fill_ratio
    FROM public.orders
    GROUP BY 1, 2;

-- An order is accepted in one of its first versions, and seldom the day after.
CREATE VIEW analysis.order_latency AS
    SELECT analysis.trading_day(created.at) AS trading_day, count(*) AS accepted_orders,
        percentile_disc(0.5) WITHIN GROUP (ORDER BY accepted.at - created.at) AS p50,
        percentile_disc(0.99) WITHIN GROUP (ORDER BY accepted.at - created.at) AS p99,
        max(accepted.at - created.at) AS longest
    FROM public.order_events AS created
    JOIN public.order_events AS accepted USING (order_id)
    WHERE created.event = 'created' AND accepted.event = 'accepted'
    GROUP BY 1;

-- The orders that were open at a time, as they were then, as far as order_events is kept. It reads by the rights
-- of its owner; tables of the same users are joined one by one.
CREATE FUNCTION analysis.open_orders_at(wanted timestamptz) RETURNS TABLE (
    order_id uuid, user_id text, symbol text, side text, limit_price_cents bigint, num_shares bigint,
    filled_shares bigint, status text, created_at timestamptz, version bigint
) LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER ROWS 10000
SET search_path = pg_catalog, pg_temp SET enable_partitionwise_join = on SET jit = off AS $$
    SELECT * FROM (
        SELECT DISTINCT ON (o.order_id) o.order_id, o.user_id, o.symbol, o.position, o.limit_price_cents,
            o.num_shares, e.filled_shares, e.status, o.created_at, e.version
        FROM public.orders AS o
        JOIN public.order_events AS e ON e.order_id = o.order_id AND e.at <= wanted
        WHERE o.created_at <= wanted AND (o.is_open OR o.updated_at > wanted)
        ORDER BY o.order_id, e.version DESC
    ) AS latest
    WHERE latest.status NOT IN ('filled', 'cancelled', 'failed')
$$;
REVOKE ALL ON FUNCTION analysis.open_orders_at(timestamptz) FROM PUBLIC;

COMMENT ON TABLE public.orders IS 'Each order as it stands. A row is replaced only by one of a higher version.';
COMMENT ON COLUMN public.orders.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN public.orders.order_id IS 'The id of the order, a UUID of version 7: ids rise with time.';
COMMENT ON COLUMN public.orders.user_partition IS 'The partition of the user inside the engine, of 64; not that of the table.';
COMMENT ON COLUMN public.orders.client_order_id IS 'The key that the user gave the order, if any.';
COMMENT ON COLUMN public.orders.external_order_id IS 'The id that the exchange gave the order.';
COMMENT ON COLUMN public.orders.symbol IS 'The symbol that the order is for.';
COMMENT ON COLUMN public.orders.position IS 'The side, buy or sell, under its older name.';
COMMENT ON COLUMN public.orders.time_in_force IS 'day or gtc (good till cancelled).';
COMMENT ON COLUMN public.orders.limit_price_cents IS 'Limit price of a share in cents; null for a market order.';
COMMENT ON COLUMN public.orders.num_shares IS 'Shares ordered.';
COMMENT ON COLUMN public.orders.filled_shares IS 'Shares of the executions that count.';
COMMENT ON COLUMN public.orders.filled_value_cents IS 'Shares times price, in cents, of the executions that count.';
COMMENT ON COLUMN public.orders.over_filled IS 'Whether the exchange has filled more than was ordered.';
COMMENT ON COLUMN public.orders.status IS 'pending, submitted, partially_filled, pending_cancel, filled, cancelled or failed.';
COMMENT ON COLUMN public.orders.reason IS 'Why it failed or was cancelled, where that was not the doing of its user.';
COMMENT ON COLUMN public.orders.created_at IS 'When the order was recorded.';
COMMENT ON COLUMN public.orders.updated_at IS 'When it last changed.';
COMMENT ON COLUMN public.orders.submit_before IS 'What the exchange has not accepted by then it never will.';
COMMENT ON COLUMN public.orders.version IS 'Counts the changes of the order, from 1.';
COMMENT ON COLUMN public.orders.ending IS 'What ended the order, if it has not been filled; null while nothing has.';
COMMENT ON COLUMN public.orders.cancel_requested IS 'Whether its user waits for a cancel.';
COMMENT ON COLUMN public.orders.user_cancelled IS 'Whether its user ever asked for a cancel.';
COMMENT ON COLUMN public.orders.taken_back IS 'Whether the exchange was asked to cancel it after it had failed here.';
COMMENT ON COLUMN public.orders.copied_version IS 'The version that longbow backfill copied, where earlier ones may be missing in order_events.';
COMMENT ON COLUMN public.orders.open_cases IS 'What operators have to decide about it, as JSON; null for nearly all.';
COMMENT ON COLUMN public.orders.is_open IS 'Whether it may still be filled.';
COMMENT ON TABLE public.executions IS 'Each execution of each order once.';
COMMENT ON COLUMN public.executions.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN public.executions.order_id IS 'The id of the order, a UUID of version 7: ids rise with time.';
COMMENT ON COLUMN public.executions.execution_id IS 'The id that the exchange gave the execution.';
COMMENT ON COLUMN public.executions.user_partition IS 'The partition of the user inside the engine, of 64; not that of the table.';
COMMENT ON COLUMN public.executions.num_shares IS 'Shares; null if it was void before it was seen.';
COMMENT ON COLUMN public.executions.price_cents IS 'Price of a share in cents; null if it was void before it was seen.';
COMMENT ON COLUMN public.executions.executed_at IS 'When the exchange made it.';
COMMENT ON COLUMN public.executions.recorded_at IS 'When it was first recorded.';
COMMENT ON COLUMN public.executions.busted_at IS 'When it was recorded that it does not count, if it does not.';
COMMENT ON COLUMN public.executions.taken_back IS 'Whether the record of the exchange took it back: it counts again if that shows it again.';
COMMENT ON COLUMN public.executions.symbol IS 'The symbol that the order is for.';
COMMENT ON TABLE public.external_orders IS 'The order that an id of the exchange means.';
COMMENT ON COLUMN public.external_orders.external_order_id IS 'The id that the exchange gave the order.';
COMMENT ON COLUMN public.external_orders.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN public.external_orders.order_id IS 'The id of the order, a UUID of version 7: ids rise with time.';
COMMENT ON TABLE public.order_events IS 'Everything that ever happened to an order, one row a version. Rows are only added.';
COMMENT ON COLUMN public.order_events.at IS 'When it was recorded.';
COMMENT ON COLUMN public.order_events.order_id IS 'The id of the order, a UUID of version 7: ids rise with time.';
COMMENT ON COLUMN public.order_events.version IS 'The version of the order after it.';
COMMENT ON COLUMN public.order_events.status IS 'The status of the order after it.';
COMMENT ON COLUMN public.order_events.filled_shares IS 'The filled shares of the order after it.';
COMMENT ON COLUMN public.order_events.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN public.order_events.user_partition IS 'The partition of the user inside the engine, of 64; not that of the table.';
COMMENT ON COLUMN public.order_events.event IS 'What happened: created, accepted, rejected, not_accepted, cancel_requested, cancelled, cancel_rejected, filled, busted, taken_back, case_opened, case_closed or closed.';
COMMENT ON COLUMN public.order_events.external_order_id IS 'Of accepted: the id that the exchange gave the order.';
COMMENT ON COLUMN public.order_events.execution_id IS 'The execution that it is about.';
COMMENT ON COLUMN public.order_events.execution_shares IS 'Shares of that execution.';
COMMENT ON COLUMN public.order_events.execution_price_cents IS 'Price of a share of that execution, in cents.';
COMMENT ON COLUMN public.order_events.executed_at IS 'When the exchange made that execution.';
COMMENT ON COLUMN public.order_events.reason IS 'Why, in words.';
COMMENT ON COLUMN public.order_events.log_id IS 'The write-ahead log that it is from.';
COMMENT ON COLUMN public.order_events.lsn IS 'Its record there.';
COMMENT ON COLUMN public.order_events.client_order_id IS 'Of created: the key that the user gave the order, if any.';
COMMENT ON COLUMN public.order_events.symbol IS 'Of created: the symbol.';
COMMENT ON COLUMN public.order_events.side IS 'Of created: buy or sell.';
COMMENT ON COLUMN public.order_events.time_in_force IS 'Of created: day or gtc.';
COMMENT ON COLUMN public.order_events.limit_price_cents IS 'Of created: the limit price in cents; null for a market order.';
COMMENT ON COLUMN public.order_events.num_shares IS 'Of created: the shares ordered.';
COMMENT ON TABLE public.order_events_kept IS 'From when on order_events is kept. No row: from the beginning.';
COMMENT ON COLUMN public.order_events_kept.is_only IS 'There is one row at most.';
COMMENT ON COLUMN public.order_events_kept.kept_from IS 'The first moment that is kept.';
COMMENT ON TABLE public.projection IS 'How far the write-ahead log has come here: all of a user partition up to the record is in the tables.';
COMMENT ON COLUMN public.projection.user_partition IS 'The partition of the user inside the engine, of 64; not that of the table.';
COMMENT ON COLUMN public.projection.epoch IS 'Counts the writers of the partition. Only the newest one may write.';
COMMENT ON COLUMN public.projection.log_id IS 'The write-ahead log of the writer.';
COMMENT ON COLUMN public.projection.lsn IS 'The last record of it that is here.';
COMMENT ON COLUMN public.projection.is_current IS 'Whether this is the newest epoch.';
COMMENT ON COLUMN public.projection.updated_at IS 'When it last moved.';
COMMENT ON COLUMN public.projection.orders_copied_at IS 'When all orders were copied, of an epoch that began so: order_events may lack what had happened before.';
COMMENT ON TABLE public.feed_position IS 'How far the feed of the exchange has been taken.';
COMMENT ON COLUMN public.feed_position.is_only IS 'There is one row at most.';
COMMENT ON COLUMN public.feed_position.session IS 'The session of the feed.';
COMMENT ON COLUMN public.feed_position.sequence IS 'The last line of it that was taken.';
COMMENT ON COLUMN public.feed_position.at IS 'When that was recorded.';
COMMENT ON COLUMN public.feed_position.log_id IS 'The write-ahead log that it is from.';
COMMENT ON COLUMN public.feed_position.lsn IS 'Its record there.';
COMMENT ON TABLE public.nodes IS 'The nodes of a deployment, each one process at a time.';
COMMENT ON TABLE public.leases IS 'Which node may do what only one may.';
COMMENT ON TABLE public.kill_switch IS 'What operators have halted, for all nodes that share the users.';
COMMENT ON TABLE public.shared_external_orders IS 'Orders that share an id of the exchange, which it should give once.';
COMMENT ON VIEW analysis.orders IS 'Each order as it stands.';
COMMENT ON COLUMN analysis.orders.order_id IS 'The id of the order, a UUID of version 7: ids rise with time.';
COMMENT ON COLUMN analysis.orders.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.orders.client_order_id IS 'The key that the user gave the order, if any.';
COMMENT ON COLUMN analysis.orders.external_order_id IS 'The id that the exchange gave the order.';
COMMENT ON COLUMN analysis.orders.symbol IS 'The symbol that the order is for.';
COMMENT ON COLUMN analysis.orders.position IS 'The side, buy or sell, under its older name.';
COMMENT ON COLUMN analysis.orders.type IS 'market or limit.';
COMMENT ON COLUMN analysis.orders.time_in_force IS 'day or gtc (good till cancelled).';
COMMENT ON COLUMN analysis.orders.limit_price_cents IS 'Limit price of a share in cents; null for a market order.';
COMMENT ON COLUMN analysis.orders.num_shares IS 'Shares ordered.';
COMMENT ON COLUMN analysis.orders.filled_shares IS 'Shares of the executions that count.';
COMMENT ON COLUMN analysis.orders.filled_value_cents IS 'Shares times price, in cents, of the executions that count.';
COMMENT ON COLUMN analysis.orders.average_price_cents IS 'Average price of the filled shares, in cents.';
COMMENT ON COLUMN analysis.orders.status IS 'pending, submitted, partially_filled, pending_cancel, filled, cancelled or failed.';
COMMENT ON COLUMN analysis.orders.reason IS 'Why it failed or was cancelled, where that was not the doing of its user.';
COMMENT ON COLUMN analysis.orders.created_at IS 'When the order was recorded.';
COMMENT ON COLUMN analysis.orders.updated_at IS 'When it last changed.';
COMMENT ON COLUMN analysis.orders.version IS 'Counts the changes of the order, from 1.';
COMMENT ON COLUMN analysis.orders.side IS 'buy or sell.';
COMMENT ON COLUMN analysis.orders.is_open IS 'Whether it may still be filled.';
COMMENT ON VIEW analysis.open_orders IS 'The orders that may still be filled.';
COMMENT ON COLUMN analysis.open_orders.order_id IS 'The id of the order, a UUID of version 7: ids rise with time.';
COMMENT ON COLUMN analysis.open_orders.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.open_orders.client_order_id IS 'The key that the user gave the order, if any.';
COMMENT ON COLUMN analysis.open_orders.external_order_id IS 'The id that the exchange gave the order.';
COMMENT ON COLUMN analysis.open_orders.symbol IS 'The symbol that the order is for.';
COMMENT ON COLUMN analysis.open_orders.position IS 'The side, buy or sell, under its older name.';
COMMENT ON COLUMN analysis.open_orders.time_in_force IS 'day or gtc (good till cancelled).';
COMMENT ON COLUMN analysis.open_orders.limit_price_cents IS 'Limit price of a share in cents; null for a market order.';
COMMENT ON COLUMN analysis.open_orders.num_shares IS 'Shares ordered.';
COMMENT ON COLUMN analysis.open_orders.filled_shares IS 'Shares of the executions that count.';
COMMENT ON COLUMN analysis.open_orders.status IS 'pending, submitted, partially_filled, pending_cancel, filled, cancelled or failed.';
COMMENT ON COLUMN analysis.open_orders.created_at IS 'When the order was recorded.';
COMMENT ON COLUMN analysis.open_orders.updated_at IS 'When it last changed.';
COMMENT ON COLUMN analysis.open_orders.version IS 'Counts the changes of the order, from 1.';
COMMENT ON COLUMN analysis.open_orders.side IS 'buy or sell.';
COMMENT ON VIEW analysis.executions IS 'Each execution once, with symbol and side of its order.';
COMMENT ON COLUMN analysis.executions.execution_id IS 'The id that the exchange gave the execution.';
COMMENT ON COLUMN analysis.executions.order_id IS 'The id of the order, a UUID of version 7: ids rise with time.';
COMMENT ON COLUMN analysis.executions.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.executions.symbol IS 'The symbol that the order is for.';
COMMENT ON COLUMN analysis.executions.position IS 'The side, buy or sell, under its older name.';
COMMENT ON COLUMN analysis.executions.num_shares IS 'Shares; null if it was void before it was seen.';
COMMENT ON COLUMN analysis.executions.price_cents IS 'Price of a share in cents; null if it was void before it was seen.';
COMMENT ON COLUMN analysis.executions.executed_at IS 'When the exchange made it.';
COMMENT ON COLUMN analysis.executions.recorded_at IS 'When it was first recorded.';
COMMENT ON COLUMN analysis.executions.busted_at IS 'When it was recorded that it does not count, if it does not.';
COMMENT ON COLUMN analysis.executions.side IS 'buy or sell.';
COMMENT ON VIEW analysis.positions IS 'What the filled shares of each user and symbol add up to.';
COMMENT ON COLUMN analysis.positions.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.positions.symbol IS 'The symbol.';
COMMENT ON COLUMN analysis.positions.num_shares IS 'Shares bought less shares sold.';
COMMENT ON VIEW analysis.order_events IS 'Everything that ever happened to an order, one row a version, as far as it is kept.';
COMMENT ON COLUMN analysis.order_events.at IS 'When it was recorded.';
COMMENT ON COLUMN analysis.order_events.order_id IS 'The id of the order, a UUID of version 7: ids rise with time.';
COMMENT ON COLUMN analysis.order_events.version IS 'The version of the order after it.';
COMMENT ON COLUMN analysis.order_events.status IS 'The status of the order after it.';
COMMENT ON COLUMN analysis.order_events.filled_shares IS 'The filled shares of the order after it.';
COMMENT ON COLUMN analysis.order_events.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.order_events.event IS 'What happened: created, accepted, rejected, not_accepted, cancel_requested, cancelled, cancel_rejected, filled, busted, taken_back, case_opened, case_closed or closed.';
COMMENT ON COLUMN analysis.order_events.external_order_id IS 'Of accepted: the id that the exchange gave the order.';
COMMENT ON COLUMN analysis.order_events.execution_id IS 'The execution that it is about.';
COMMENT ON COLUMN analysis.order_events.execution_shares IS 'Shares of that execution.';
COMMENT ON COLUMN analysis.order_events.execution_price_cents IS 'Price of a share of that execution, in cents.';
COMMENT ON COLUMN analysis.order_events.executed_at IS 'When the exchange made that execution.';
COMMENT ON COLUMN analysis.order_events.reason IS 'Why, in words.';
COMMENT ON COLUMN analysis.order_events.client_order_id IS 'Of created: the key that the user gave the order, if any.';
COMMENT ON COLUMN analysis.order_events.symbol IS 'Of created: the symbol.';
COMMENT ON COLUMN analysis.order_events.side IS 'Of created: buy or sell.';
COMMENT ON COLUMN analysis.order_events.time_in_force IS 'Of created: day or gtc.';
COMMENT ON COLUMN analysis.order_events.limit_price_cents IS 'Of created: the limit price in cents; null for a market order.';
COMMENT ON COLUMN analysis.order_events.num_shares IS 'Of created: the shares ordered.';
COMMENT ON VIEW analysis.order_events_kept IS 'From when on order_events is kept. No row: from the beginning.';
COMMENT ON COLUMN analysis.order_events_kept.kept_from IS 'The first moment that is kept.';
COMMENT ON VIEW analysis.external_orders IS 'The order that an id of the exchange means.';
COMMENT ON COLUMN analysis.external_orders.external_order_id IS 'The id that the exchange gave the order.';
COMMENT ON COLUMN analysis.external_orders.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.external_orders.order_id IS 'The id of the order, a UUID of version 7: ids rise with time.';
COMMENT ON VIEW analysis.daily_volume IS 'What was executed, by trading day and symbol. Executions that were busted do not count.';
COMMENT ON COLUMN analysis.daily_volume.trading_day IS 'The day on which New York traded.';
COMMENT ON COLUMN analysis.daily_volume.symbol IS 'The symbol.';
COMMENT ON COLUMN analysis.daily_volume.executions IS 'Number of executions.';
COMMENT ON COLUMN analysis.daily_volume.num_shares IS 'Their shares.';
COMMENT ON COLUMN analysis.daily_volume.value_cents IS 'Their shares times price, in cents.';
COMMENT ON VIEW analysis.fill_ratio IS 'How much of the orders created on a trading day was filled, by symbol.';
COMMENT ON COLUMN analysis.fill_ratio.trading_day IS 'The day on which New York traded.';
COMMENT ON COLUMN analysis.fill_ratio.symbol IS 'The symbol.';
COMMENT ON COLUMN analysis.fill_ratio.orders IS 'Number of orders.';
COMMENT ON COLUMN analysis.fill_ratio.filled_orders IS 'Those that were filled to the last share.';
COMMENT ON COLUMN analysis.fill_ratio.ordered_shares IS 'Their shares.';
COMMENT ON COLUMN analysis.fill_ratio.filled_shares IS 'Their filled shares.';
COMMENT ON COLUMN analysis.fill_ratio.fill_ratio IS 'Filled shares by ordered shares.';
COMMENT ON VIEW analysis.order_latency IS 'From the record of an order to the record that the exchange accepted it, by trading day.';
COMMENT ON COLUMN analysis.order_latency.trading_day IS 'The day on which New York traded.';
COMMENT ON COLUMN analysis.order_latency.accepted_orders IS 'Number of orders.';
COMMENT ON COLUMN analysis.order_latency.p50 IS 'Half of them took at most this.';
COMMENT ON COLUMN analysis.order_latency.p99 IS '99 of 100 took at most this.';
COMMENT ON COLUMN analysis.order_latency.longest IS 'The longest.';
COMMENT ON FUNCTION analysis.trading_day(timestamptz) IS 'The day on which New York trades at a time.';
COMMENT ON FUNCTION analysis.open_orders_at(timestamptz) IS
    'The orders that were open at a time, as they were then.';
COMMENT ON COLUMN public.projection.handed_to IS 'The epoch of the node that may take the partition over at once.';
COMMENT ON COLUMN public.nodes.node_id IS 'The number of the node.';
COMMENT ON COLUMN public.nodes.epoch IS 'Counts the processes that have been this node.';
COMMENT ON COLUMN public.nodes.log_id IS 'Its write-ahead log.';
COMMENT ON COLUMN public.nodes.home IS 'Where its data directory is: machine, inode and host.';
COMMENT ON COLUMN public.nodes.version IS 'The version of its program.';
COMMENT ON COLUMN public.nodes.started_at IS 'When it started.';
COMMENT ON COLUMN public.nodes.lease_until IS 'Until when it is taken to run without another word.';
COMMENT ON COLUMN public.nodes.peer_address IS 'Its address for other nodes.';
COMMENT ON COLUMN public.nodes.is_member IS 'Whether it shares the users with other nodes.';
COMMENT ON COLUMN public.nodes.is_draining IS 'Whether it hands over its users and takes no more.';
COMMENT ON COLUMN public.nodes.exchange IS 'The exchange that it trades at, as a URL.';
COMMENT ON COLUMN public.nodes.keys IS 'A hash of its keys.';
COMMENT ON COLUMN public.nodes.has_exchange IS 'Whether it has reached the exchange since it began.';
COMMENT ON COLUMN public.leases.name IS 'What the lease is for: feed.';
COMMENT ON COLUMN public.leases.node_id IS 'The node that holds it.';
COMMENT ON COLUMN public.leases.epoch IS 'Counts the holders.';
COMMENT ON COLUMN public.leases.lease_until IS 'Until when it is held without another word.';
COMMENT ON COLUMN public.kill_switch.is_only IS 'There is one row at most.';
COMMENT ON COLUMN public.kill_switch.version IS 'Counts the changes.';
COMMENT ON COLUMN public.kill_switch.halts IS 'What is halted, by whom and why.';
COMMENT ON COLUMN public.kill_switch.changed_at IS 'When it last changed.';
COMMENT ON COLUMN public.shared_external_orders.external_order_id IS 'The id.';
COMMENT ON COLUMN public.shared_external_orders.user_id IS 'The user of one of the orders.';
COMMENT ON COLUMN public.shared_external_orders.order_id IS 'One of the orders.';
COMMENT ON COLUMN public.shared_external_orders.noted_at IS 'When that was noticed.';
COMMENT ON COLUMN public.shared_external_orders.written_by IS 'The transaction that noted it.';
