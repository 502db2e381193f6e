-- What caches of a running service compare to learn that their content is out of date. Each row is
-- counted up in the transaction of the change, so whoever sees the change sees the count.

-- How often the set of a tenant's series changed: the sum over the slots. A writer counts in the
-- slot of its connection, so that writers of one tenant seldom wait for each other's commit.
CREATE TABLE series_generation (
    tenant_id integer NOT NULL,
    slot smallint NOT NULL,
    generation bigint NOT NULL,
    PRIMARY KEY (tenant_id, slot)
) WITH (fillfactor = 50);

-- How often samples of a day (days since 1970-01-01) were added or changed after that day's samples
-- could have been in a cache. Samples that arrive in time are not counted.
CREATE TABLE late_write (
    tenant_id integer NOT NULL,
    day integer NOT NULL,
    generation bigint NOT NULL,
    PRIMARY KEY (tenant_id, day)
) WITH (fillfactor = 50);
