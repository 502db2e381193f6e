-- Samples of the store `rows` arrive in the table `arrival` too, and drains move them into `sample`.

-- The bounds of the rows of each tenant, Unix ms, which drains widen.
CREATE TABLE row_extent (
    tenant_id integer PRIMARY KEY,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL
) WITH (fillfactor = 50);

-- Rows that are there already: finding their first times would read the index of each series. Of the
-- last times, only chunks of the future have to be read.
INSERT INTO row_extent (tenant_id, first_ms, last_ms)
SELECT
    t.id,
    -62135596800000,
    floor(extract(epoch FROM greatest(
        now() + interval '1 day',
        (SELECT max(p.ts) FROM sample AS p WHERE p.ts > now() + interval '1 day')
    )) * 1000)::bigint
FROM tenant AS t
WHERE EXISTS (SELECT FROM sample);

-- Rows are written by drains only, which take the samples from the database itself.
DROP TRIGGER IF EXISTS check_writer ON sample;

-- What changed is known from the log of arrivals and changes.
DROP TABLE late_write;

-- What SQL readers have to fold; see the view `folded_tenant`.
CREATE INDEX arrival_folded ON arrival (tenant_id) WHERE kind > 1 OR is_aside;

-- Nobody asks for the newest row of a series any more: the head is asked first.
DROP FUNCTION IF EXISTS newest_sample(bigint);
