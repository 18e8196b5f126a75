-- What the members of a deployment must have in common, as each of them has it: another exchange has other
-- orders under the same ids, and other keys let nobody in whom the others know.
ALTER TABLE nodes
    -- Its address, as a URL.
    ADD COLUMN exchange text COLLATE "C",
    -- A hash of them.
    ADD COLUMN keys text COLLATE "C",
    -- Whether it has reached the exchange since it began. A member that has not takes no users from others.
    ADD COLUMN has_exchange boolean NOT NULL DEFAULT false;
