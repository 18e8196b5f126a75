-- The nodes of a deployment: each is one process at a time, with one write-ahead log.

CREATE TABLE nodes (
    node_id     smallint PRIMARY KEY CHECK (node_id BETWEEN 0 AND 1023),
    -- Counts the processes that have been this node. An older one stops when it finds a newer one.
    epoch       bigint NOT NULL CHECK (epoch > 0),
    -- Its log, and the place of its data directory: machine, inode and host.
    log_id      bigint NOT NULL,
    home        text COLLATE "C" NOT NULL,
    version     text NOT NULL,
    started_at  timestamptz NOT NULL,
    -- By the clock of this server. A process renews it while it runs, and ends it when it stops.
    lease_until timestamptz NOT NULL
);
