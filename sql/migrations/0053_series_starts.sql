-- When the counters of a series began, as their senders say: a row for each time that a process began, and
-- not for each sample. What a later one began ends what was before it, so rows may be added in any order
-- and by any process. The rows go with their series; a foreign key would be checked for each removal.
CREATE TABLE series_start (
    series_id bigint NOT NULL,
    start_ms bigint NOT NULL,
    -- The first sample that was sent with this start.
    from_ms bigint NOT NULL,
    PRIMARY KEY (series_id, start_ms)
);
