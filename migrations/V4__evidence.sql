-- What is in doubt about orders: executions that the exchange's record took back and that count again
-- when it shows them again, and cases that wait for a decision.

ALTER TABLE executions ADD COLUMN taken_back boolean NOT NULL DEFAULT false;

-- JSON; null for nearly all.
ALTER TABLE orders ADD COLUMN open_cases text;

ALTER TABLE order_events DROP CONSTRAINT order_events_event_check;
ALTER TABLE order_events ADD CONSTRAINT order_events_event_check CHECK (event IN (
    'created', 'accepted', 'rejected', 'not_accepted', 'cancel_requested', 'cancelled',
    'cancel_rejected', 'filled', 'busted', 'taken_back', 'case_opened', 'case_closed', 'closed'
)) NOT VALID;

CREATE OR REPLACE FUNCTION order_status_follows(
    status text, ending text, num_shares bigint, filled_shares bigint, over_filled boolean,
    external_order_id text, cancel_requested boolean, version bigint
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN filled_shares >= 0
        -- The exchange has filled more than was ordered: it happens, is recorded and never clipped.
        AND over_filled = (filled_shares > num_shares)
        AND (ending IS NULL OR ending IN (
            'rejected', 'not_accepted', 'cancelled_by_user', 'cancelled_by_exchange', 'expired',
            'closed_by_operator', 'failed_by_operator'
        ))
        AND status = CASE
            WHEN ending IN ('rejected', 'not_accepted', 'failed_by_operator') THEN 'failed'
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
