-- Users' money: accounts, positions, a ledger of balanced movements, and what operators moved. They follow the
-- orders in the same transactions.

CREATE TABLE accounts (
    user_id         text COLLATE "C" PRIMARY KEY,
    user_partition  smallint NOT NULL,
    cash_cents      bigint NOT NULL,
    reserved_cents  bigint NOT NULL CONSTRAINT reserves_what_orders_hold CHECK (reserved_cents >= 0),
    deposited_cents bigint NOT NULL,
    version         bigint NOT NULL
) PARTITION BY HASH (user_id);

CREATE TABLE positions (
    user_id         text COLLATE "C" NOT NULL,
    symbol          text COLLATE "C" NOT NULL,
    user_partition  smallint NOT NULL,
    shares          bigint NOT NULL,
    reserved_shares bigint NOT NULL CONSTRAINT reserves_what_orders_hold CHECK (reserved_shares >= 0),
    cost_cents      bigint NOT NULL,
    profit_cents    bigint NOT NULL,
    version         bigint NOT NULL,
    PRIMARY KEY (user_id, symbol)
) PARTITION BY HASH (user_id);

CREATE TABLE cash_movements (
    user_id        text COLLATE "C" NOT NULL,
    movement_id    text COLLATE "C" NOT NULL,
    user_partition smallint NOT NULL,
    at             timestamptz NOT NULL,
    kind           text COLLATE "C" NOT NULL,
    cents          bigint NOT NULL CHECK (cents > 0),
    moved_by       text,
    reason         text NOT NULL,
    PRIMARY KEY (user_id, movement_id)
) PARTITION BY HASH (user_id);

DO $$
BEGIN
    FOR part IN 0..63 LOOP
        -- Room for the next version of a row beside it: no update touches an indexed column.
        EXECUTE format('CREATE TABLE accounts_p%s PARTITION OF accounts '
            'FOR VALUES WITH (MODULUS 64, REMAINDER %s) WITH (fillfactor = 70)', to_char(part, 'FM00'), part);
        EXECUTE format('CREATE TABLE positions_p%s PARTITION OF positions '
            'FOR VALUES WITH (MODULUS 64, REMAINDER %s) WITH (fillfactor = 70)', to_char(part, 'FM00'), part);
        EXECUTE format('CREATE TABLE cash_movements_p%s PARTITION OF cash_movements '
            'FOR VALUES WITH (MODULUS 64, REMAINDER %s)', to_char(part, 'FM00'), part);
    END LOOP;
END
$$;

-- One row a movement, its postings as columns; the shares that a user gets come from the clearing shares of their
-- symbol. What is reserved is no part of it. The projection makes the partitions of the days, named
-- ledger_entries_YYYYMMDD (UTC), ahead of their time.
CREATE TABLE ledger_entries (
    user_id        text COLLATE "C" NOT NULL,
    version        bigint NOT NULL,
    line           smallint NOT NULL,
    at             timestamptz NOT NULL,
    user_partition smallint NOT NULL,
    kind           text COLLATE "C" NOT NULL,
    symbol         text COLLATE "C",
    cash_cents     bigint NOT NULL,
    cost_cents     bigint NOT NULL,
    profit_cents   bigint NOT NULL,
    clearing_cents bigint NOT NULL,
    shares         bigint NOT NULL,
    order_id       uuid,
    execution_id   text COLLATE "C",
    movement_id    text COLLATE "C",
    log_id         bigint,
    lsn            bigint,
    PRIMARY KEY (user_id, version, line, at),
    CONSTRAINT postings_sum_to_zero
        CHECK (cash_cents::numeric + cost_cents + profit_cents + clearing_cents = 0),
    CONSTRAINT shares_are_of_a_symbol
        CHECK (symbol IS NOT NULL OR (cost_cents = 0 AND profit_cents = 0 AND shares = 0))
) PARTITION BY RANGE (at);

CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger_entries is append-only: % is not allowed', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE ON ledger_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_ledger_change();
CREATE TRIGGER ledger_entries_not_emptied BEFORE TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change();

-- As make_order_events_partition.
CREATE FUNCTION make_ledger_entries_partition(day integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    first_date date := date '1970-01-01' + day;
    name       text := 'ledger_entries_' || to_char(first_date, 'YYYYMMDD');
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    LOCK TABLE ONLY ledger_entries IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE ledger_entries INCLUDING CONSTRAINTS)', name);
    EXECUTE format('CREATE TRIGGER ledger_entries_not_emptied BEFORE TRUNCATE ON %I '
        'FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()', name);
    EXECUTE format('ALTER TABLE ledger_entries ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, first_date::timestamp AT TIME ZONE 'UTC', (first_date + 1)::timestamp AT TIME ZONE 'UTC');
END
$$;

-- Rows of before: nothing was reserved, and no profit was kept.
ALTER TABLE orders
    ADD COLUMN reserves text COLLATE "C",
    ADD COLUMN reserved_price_cents bigint;
ALTER TABLE executions ADD COLUMN profit_cents bigint DEFAULT 0;

-- Whether the accounts of a partition follow its orders.
ALTER TABLE projection ADD COLUMN keeps_accounts boolean NOT NULL DEFAULT false;

-- With another signature: nodes of before would write orders without money.
DROP FUNCTION advance_projection(smallint[], bigint[], bigint, bigint);

CREATE FUNCTION advance_projection(
    touched smallint[], known bigint[], writer_epoch bigint, reached bigint, begins_accounts boolean
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved integer;
BEGIN
    UPDATE projection SET lsn = greatest(lsn, reached), updated_at = now(),
            keeps_accounts = keeps_accounts OR begins_accounts
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

-- Enters into the ledger what accounts and positions have beyond it, against clearing.
CREATE FUNCTION bring_ledger_forward(moment timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    entered bigint;
BEGIN
    PERFORM make_ledger_entries_partition((moment AT TIME ZONE 'UTC')::date - date '1970-01-01');
    INSERT INTO ledger_entries (user_id, version, line, at, user_partition, kind, symbol, cash_cents, cost_cents,
            profit_cents, clearing_cents, shares)
        SELECT user_id, coalesce(version, 0), row_number() OVER (PARTITION BY user_id ORDER BY missing.symbol),
            moment, missing.user_partition, 'brought_forward', symbol, cash, cost, profit,
            -(cash + cost + profit), missing.shares
        FROM (
            SELECT user_id, symbol, max(own.user_partition) AS user_partition, sum(cash) AS cash,
                sum(cost) AS cost, sum(profit) AS profit, sum(own.shares) AS shares
            FROM (
                SELECT user_id, NULL AS symbol, user_partition, cash_cents AS cash, 0 AS cost, 0 AS profit,
                    0 AS shares
                FROM accounts
                UNION ALL SELECT user_id, symbol, user_partition, 0, cost_cents, -profit_cents, shares
                FROM positions
                UNION ALL SELECT user_id, symbol, user_partition, 0, -cost_cents, -profit_cents, -shares
                FROM ledger_entries WHERE symbol IS NOT NULL
                UNION ALL SELECT user_id, NULL, user_partition, -cash_cents, 0, 0, 0 FROM ledger_entries
            ) AS own
            GROUP BY user_id, symbol
        ) AS missing
        LEFT JOIN accounts USING (user_id)
        WHERE cash <> 0 OR cost <> 0 OR profit <> 0 OR missing.shares <> 0;
    GET DIAGNOSTICS entered = ROW_COUNT;
    RETURN entered;
END
$$;

-- Begins accounts where nodes share the users, so that none has all orders: positions from the executions, in the
-- order of their ids, and no cash. It computes as the core of accounts does; see docs/design/accounts.md.
CREATE FUNCTION begin_accounts() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    trade    record;
    held     numeric := 0;
    cost     numeric := 0;
    profit   numeric := 0;
    moves    bigint := 0;
    signed   numeric;
    closed   numeric;
    product  numeric;
    removed  numeric;
    realized numeric;
BEGIN
    LOCK TABLE projection IN SHARE ROW EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT FROM projection WHERE is_current AND NOT keeps_accounts) THEN
        RETURN;
    END IF;
    DELETE FROM positions;
    DELETE FROM accounts;
    FOR trade IN
        SELECT o.user_id, o.symbol, o.user_partition, o.position = 'buy' AS is_buy, e.num_shares, e.price_cents,
            lead(o.user_id) OVER by_symbol IS NULL AS is_last
        FROM orders AS o JOIN executions AS e USING (user_id, order_id)
        WHERE e.busted_at IS NULL AND NOT e.taken_back
        WINDOW by_symbol AS (PARTITION BY o.user_id, o.symbol ORDER BY o.order_id, e.execution_id)
        ORDER BY o.user_id, o.symbol, o.order_id, e.execution_id
    LOOP
        signed := CASE WHEN trade.is_buy THEN trade.num_shares ELSE -trade.num_shares END;
        realized := 0;
        IF held = 0 THEN
            realized := -cost;
        ELSIF sign(held) <> sign(signed) THEN
            closed := least(abs(held), abs(signed));
            product := cost * closed;
            removed := div(product, abs(held));
            -- Half to even.
            IF 2 * abs(product - removed * abs(held)) > abs(held)
                OR (2 * abs(product - removed * abs(held)) = abs(held) AND removed % 2 <> 0)
            THEN
                removed := removed + sign(product);
            END IF;
            realized := -sign(signed) * closed * trade.price_cents - removed;
        END IF;
        held := held + signed;
        cost := cost + signed * trade.price_cents + realized;
        profit := profit + realized;
        moves := moves + 1;
        IF trade.is_last THEN
            -- Amounts beyond an account are no real ones.
            IF greatest(abs(held), abs(cost), abs(profit)) < 9223372036854775807 THEN
                INSERT INTO positions VALUES (trade.user_id, trade.symbol, trade.user_partition, held, 0, cost,
                    profit, moves);
            END IF;
            held := 0;
            cost := 0;
            profit := 0;
            moves := 0;
        END IF;
    END LOOP;
    INSERT INTO accounts
        SELECT user_id, max(user_partition), 0, 0, sum(cost_cents::numeric - profit_cents), sum(version)
        FROM positions GROUP BY user_id;
    UPDATE projection SET keeps_accounts = true WHERE is_current;
    PERFORM bring_ledger_forward(now());
END
$$;

-- They find their tables whoever calls them, and are the owner's, who grants what others need.
DO $$
DECLARE
    called text;
BEGIN
    FOREACH called IN ARRAY ARRAY['make_ledger_entries_partition(integer)', 'begin_accounts()',
        'bring_ledger_forward(timestamptz)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', called, current_schema());
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', called);
    END LOOP;
END
$$;

-- A server alone begins accounts itself: it has all orders.
DO $$
BEGIN
    IF EXISTS (SELECT FROM nodes WHERE is_member) THEN
        PERFORM begin_accounts();
    END IF;
END
$$;

CREATE VIEW analysis.accounts AS
    SELECT user_id, cash_cents, reserved_cents, cash_cents::numeric - reserved_cents AS buying_power_cents,
        deposited_cents, version
    FROM public.accounts;

-- Cost that a bust left on a position without shares belongs to its profit.
DROP VIEW analysis.positions;
CREATE VIEW analysis.positions AS
    SELECT user_id, symbol, shares AS num_shares, shares::numeric - reserved_shares AS available_shares,
        reserved_shares, CASE WHEN shares = 0 THEN 0 ELSE cost_cents END AS cost_cents,
        CASE WHEN shares <> 0 THEN cost_cents::numeric / shares END AS average_cost_cents,
        CASE WHEN shares = 0 THEN profit_cents::numeric - cost_cents ELSE profit_cents END
            AS realized_profit_cents,
        version
    FROM public.positions;

CREATE VIEW analysis.cash_movements AS
    SELECT user_id, movement_id, at, kind, cents, moved_by, reason FROM public.cash_movements;

CREATE VIEW analysis.ledger_entries AS
    SELECT at, user_id, version, line, kind, symbol, cash_cents, cost_cents, profit_cents, clearing_cents, shares,
        order_id, execution_id, movement_id
    FROM public.ledger_entries;

CREATE VIEW analysis.ledger_postings AS
    SELECT at, user_id, version, line, kind, ledger_account, posting.symbol, cents, posting.shares
    FROM public.ledger_entries, LATERAL (VALUES
        ('cash', NULL, cash_cents, 0),
        ('cost', symbol, cost_cents, 0),
        ('profit', symbol, profit_cents, 0),
        ('clearing', NULL, clearing_cents, 0),
        ('shares', symbol, 0, shares),
        ('clearing_shares', symbol, 0, -shares)
    ) AS posting (ledger_account, symbol, cents, shares)
    WHERE cents <> 0 OR posting.shares <> 0;

-- One moment: a view is one statement.
CREATE VIEW analysis.trial_balance AS
    WITH books AS (
        SELECT ledger_account, symbol, sum(amount) AS amount FROM (
            SELECT 'cash' AS ledger_account, NULL AS symbol, sum(cash_cents) AS amount FROM public.accounts
            UNION ALL SELECT 'clearing', NULL, -sum(deposited_cents) FROM public.accounts
            UNION ALL SELECT account, shares_of, amount FROM (
                SELECT symbol, sum(cost_cents) AS cost, -sum(profit_cents) AS profit, sum(shares) AS held
                FROM public.positions GROUP BY symbol
            ) AS own, LATERAL (VALUES ('cost', NULL, cost), ('profit', NULL, profit), ('shares', symbol, held))
                AS each (account, shares_of, amount)
        ) AS all_books GROUP BY ledger_account, symbol
    ), entries AS (
        SELECT account AS ledger_account, shares_of AS symbol, sum(amount) AS amount FROM (
            SELECT symbol, sum(cash_cents) AS cash, sum(cost_cents) AS cost, sum(profit_cents) AS profit,
                sum(clearing_cents) AS clearing, sum(shares) AS held
            FROM public.ledger_entries GROUP BY symbol
        ) AS own, LATERAL (VALUES ('cash', NULL, cash), ('cost', NULL, cost), ('profit', NULL, profit),
                ('clearing', NULL, clearing), ('shares', symbol, held)) AS each (account, shares_of, amount)
        WHERE account <> 'shares' OR shares_of IS NOT NULL
        GROUP BY 1, 2
    )
    SELECT ledger_account, nullif(key, '') AS symbol, coalesce(books.amount, 0) AS in_accounts,
        coalesce(entries.amount, 0) AS in_ledger,
        coalesce(books.amount, 0) - coalesce(entries.amount, 0) AS difference
    FROM (SELECT ledger_account, amount, coalesce(symbol, '') AS key FROM books) AS books
    FULL JOIN (SELECT ledger_account, amount, coalesce(symbol, '') AS key FROM entries) AS entries
        USING (ledger_account, key);

COMMENT ON TABLE public.accounts IS 'The cash of each user. A row is replaced only by one of a higher version.';
COMMENT ON COLUMN public.accounts.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN public.accounts.user_partition IS 'The partition of the user inside the engine, of 64; not that of the table.';
COMMENT ON COLUMN public.accounts.cash_cents IS 'All cash, reserved or not; negative after late truths.';
COMMENT ON COLUMN public.accounts.reserved_cents IS 'What open buys may still spend of it.';
COMMENT ON COLUMN public.accounts.deposited_cents IS 'Deposits less withdrawals, and the cost of what was brought forward.';
COMMENT ON COLUMN public.accounts.version IS 'Counts the movements of the account.';
COMMENT ON TABLE public.positions IS 'What each user has of each symbol. Rows stay when all is sold.';
COMMENT ON COLUMN public.positions.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN public.positions.symbol IS 'The symbol.';
COMMENT ON COLUMN public.positions.user_partition IS 'The partition of the user inside the engine, of 64; not that of the table.';
COMMENT ON COLUMN public.positions.shares IS 'Shares held; negative if more were sold than held.';
COMMENT ON COLUMN public.positions.reserved_shares IS 'Shares that open sells may still sell.';
COMMENT ON COLUMN public.positions.cost_cents IS 'What the shares have cost. Without shares it belongs to the profit.';
COMMENT ON COLUMN public.positions.profit_cents IS 'Realized profit; negative for a loss.';
COMMENT ON COLUMN public.positions.version IS 'The version of the account at the last movement of this symbol.';
COMMENT ON TABLE public.cash_movements IS 'Cash that came from outside or went there.';
COMMENT ON COLUMN public.cash_movements.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN public.cash_movements.movement_id IS 'Names the movement among those of the user.';
COMMENT ON COLUMN public.cash_movements.user_partition IS 'The partition of the user inside the engine, of 64; not that of the table.';
COMMENT ON COLUMN public.cash_movements.at IS 'When it was recorded.';
COMMENT ON COLUMN public.cash_movements.kind IS 'opening, deposit or withdrawal.';
COMMENT ON COLUMN public.cash_movements.cents IS 'The amount, also positive for a withdrawal.';
COMMENT ON COLUMN public.cash_movements.moved_by IS 'The operator; null for an opening balance.';
COMMENT ON COLUMN public.cash_movements.reason IS 'Why, in words.';
COMMENT ON TABLE public.ledger_entries IS 'Each movement of money or shares once, its postings as columns that sum to zero. Rows are only added.';
COMMENT ON COLUMN public.ledger_entries.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN public.ledger_entries.version IS 'The version of the account after it.';
COMMENT ON COLUMN public.ledger_entries.line IS '0; of what was brought forward, which has several rows, counted from 1.';
COMMENT ON COLUMN public.ledger_entries.at IS 'When it was recorded.';
COMMENT ON COLUMN public.ledger_entries.user_partition IS 'The partition of the user inside the engine, of 64; not that of the table.';
COMMENT ON COLUMN public.ledger_entries.kind IS 'execution, bust, correction, opening, deposit, withdrawal or brought_forward.';
COMMENT ON COLUMN public.ledger_entries.symbol IS 'The symbol of cost, profit and shares; null for cash alone.';
COMMENT ON COLUMN public.ledger_entries.cash_cents IS 'Added to the cash of the user.';
COMMENT ON COLUMN public.ledger_entries.cost_cents IS 'Added to the cost of the position.';
COMMENT ON COLUMN public.ledger_entries.profit_cents IS 'Posted to realized profit, a credit account: a profit is negative.';
COMMENT ON COLUMN public.ledger_entries.clearing_cents IS 'Posted to clearing, the other side of what comes from outside.';
COMMENT ON COLUMN public.ledger_entries.shares IS 'Added to the shares of the user, and taken from the clearing shares.';
COMMENT ON COLUMN public.ledger_entries.order_id IS 'The order of the execution.';
COMMENT ON COLUMN public.ledger_entries.execution_id IS 'The execution that caused it.';
COMMENT ON COLUMN public.ledger_entries.movement_id IS 'The cash movement that it is.';
COMMENT ON COLUMN public.ledger_entries.log_id IS 'The write-ahead log that it is from; null for what was brought forward.';
COMMENT ON COLUMN public.ledger_entries.lsn IS 'Its record there.';
COMMENT ON COLUMN public.orders.reserves IS 'What each share left reserves while the order is open: cash, shares, or nothing (null).';
COMMENT ON COLUMN public.orders.reserved_price_cents IS 'Of cash: how much of it.';
COMMENT ON COLUMN public.executions.profit_cents IS 'The profit that it realized; 0 if it does not count, null if its amounts are beyond its account.';
COMMENT ON COLUMN public.projection.keeps_accounts IS 'Whether accounts follow the orders of the partition.';
COMMENT ON VIEW analysis.accounts IS 'The cash of each user.';
COMMENT ON COLUMN analysis.accounts.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.accounts.cash_cents IS 'All cash, reserved or not; negative after late truths.';
COMMENT ON COLUMN analysis.accounts.reserved_cents IS 'What open buys may still spend of it.';
COMMENT ON COLUMN analysis.accounts.buying_power_cents IS 'Cash less reserved cash.';
COMMENT ON COLUMN analysis.accounts.deposited_cents IS 'Deposits less withdrawals, and the cost of what was brought forward.';
COMMENT ON COLUMN analysis.accounts.version IS 'Counts the movements of the account.';
COMMENT ON VIEW analysis.positions IS 'What each user has of each symbol. Rows stay when all is sold.';
COMMENT ON COLUMN analysis.positions.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.positions.symbol IS 'The symbol.';
COMMENT ON COLUMN analysis.positions.num_shares IS 'Shares held; negative if more were sold than held.';
COMMENT ON COLUMN analysis.positions.available_shares IS 'Those that no open sell may sell.';
COMMENT ON COLUMN analysis.positions.reserved_shares IS 'Those that open sells may still sell.';
COMMENT ON COLUMN analysis.positions.cost_cents IS 'What the shares held have cost.';
COMMENT ON COLUMN analysis.positions.average_cost_cents IS 'The same by share; null without shares.';
COMMENT ON COLUMN analysis.positions.realized_profit_cents IS 'Realized profit; negative for a loss.';
COMMENT ON COLUMN analysis.positions.version IS 'The version of the account at the last movement of this symbol.';
COMMENT ON VIEW analysis.cash_movements IS 'Cash that came from outside or went there.';
COMMENT ON COLUMN analysis.cash_movements.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.cash_movements.movement_id IS 'Names the movement among those of the user.';
COMMENT ON COLUMN analysis.cash_movements.at IS 'When it was recorded.';
COMMENT ON COLUMN analysis.cash_movements.kind IS 'opening, deposit or withdrawal.';
COMMENT ON COLUMN analysis.cash_movements.cents IS 'The amount, also positive for a withdrawal.';
COMMENT ON COLUMN analysis.cash_movements.moved_by IS 'The operator; null for an opening balance.';
COMMENT ON COLUMN analysis.cash_movements.reason IS 'Why, in words.';
COMMENT ON VIEW analysis.ledger_entries IS 'Each movement of money or shares once, its postings as columns that sum to zero.';
COMMENT ON COLUMN analysis.ledger_entries.at IS 'When it was recorded.';
COMMENT ON COLUMN analysis.ledger_entries.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.ledger_entries.version IS 'The version of the account after it.';
COMMENT ON COLUMN analysis.ledger_entries.line IS '0; of what was brought forward, which has several rows, counted from 1.';
COMMENT ON COLUMN analysis.ledger_entries.kind IS 'execution, bust, correction, opening, deposit, withdrawal or brought_forward.';
COMMENT ON COLUMN analysis.ledger_entries.symbol IS 'The symbol of cost, profit and shares; null for cash alone.';
COMMENT ON COLUMN analysis.ledger_entries.cash_cents IS 'Added to the cash of the user.';
COMMENT ON COLUMN analysis.ledger_entries.cost_cents IS 'Added to the cost of the position.';
COMMENT ON COLUMN analysis.ledger_entries.profit_cents IS 'Posted to realized profit, a credit account: a profit is negative.';
COMMENT ON COLUMN analysis.ledger_entries.clearing_cents IS 'Posted to clearing, the other side of what comes from outside.';
COMMENT ON COLUMN analysis.ledger_entries.shares IS 'Added to the shares of the user, and taken from the clearing shares.';
COMMENT ON COLUMN analysis.ledger_entries.order_id IS 'The order of the execution.';
COMMENT ON COLUMN analysis.ledger_entries.execution_id IS 'The execution that caused it.';
COMMENT ON COLUMN analysis.ledger_entries.movement_id IS 'The cash movement that it is.';
COMMENT ON VIEW analysis.ledger_postings IS 'The ledger with one row a posting.';
COMMENT ON COLUMN analysis.ledger_postings.at IS 'When it was recorded.';
COMMENT ON COLUMN analysis.ledger_postings.user_id IS 'The user, as the token names it.';
COMMENT ON COLUMN analysis.ledger_postings.version IS 'The version of the account after it.';
COMMENT ON COLUMN analysis.ledger_postings.line IS 'The row of ledger_entries that it is of.';
COMMENT ON COLUMN analysis.ledger_postings.kind IS 'execution, bust, correction, opening, deposit, withdrawal or brought_forward.';
COMMENT ON COLUMN analysis.ledger_postings.ledger_account IS 'cash, cost, profit, clearing, shares or clearing_shares.';
COMMENT ON COLUMN analysis.ledger_postings.symbol IS 'The symbol, of accounts that are kept by symbol.';
COMMENT ON COLUMN analysis.ledger_postings.cents IS 'What is added to it, in cents.';
COMMENT ON COLUMN analysis.ledger_postings.shares IS 'What is added to it, in shares.';
COMMENT ON VIEW analysis.trial_balance IS 'The sums of all users by ledger account: cash, cost, profit and clearing, which sum to zero, and the shares of each symbol.';
COMMENT ON COLUMN analysis.trial_balance.ledger_account IS 'cash, cost, profit, clearing or shares.';
COMMENT ON COLUMN analysis.trial_balance.symbol IS 'Of shares: the symbol.';
COMMENT ON COLUMN analysis.trial_balance.in_accounts IS 'What accounts and positions come to, in cents or shares.';
COMMENT ON COLUMN analysis.trial_balance.in_ledger IS 'What the rows of the ledger come to.';
COMMENT ON COLUMN analysis.trial_balance.difference IS 'The one less the other: zero.';
