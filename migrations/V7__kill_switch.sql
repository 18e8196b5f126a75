-- What operators have halted, for all nodes of a deployment that share the users. A node that shares none
-- keeps its own in its data directory.

CREATE TABLE kill_switch (
    -- One row, from the first change on.
    is_only    boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    -- Grows with each change. A change of an older version is not made: its writer looks again.
    version    bigint NOT NULL CHECK (version > 0),
    halts      json NOT NULL,
    -- By the clock of this server.
    changed_at timestamptz NOT NULL
);
