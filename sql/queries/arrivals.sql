-- commit_arrivals --
-- Appends arrivals; returns their ids. The parameters are those of the procedure.
CALL commit_arrivals(
    $1::text, $2::integer[], $3::bigint[], $4::bigint, $5::integer[], $6::smallint[], $7::integer[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[], $13::bigint[],
    $14::smallint[], $15::float8[], $16::bigint[]
)

-- sync --
-- One snapshot's state, and what came after arrival $1 and after change $2, a row each (source 1 and 2);
-- one row with source NULL when nothing came. The arrivals are the oldest ones, at most $3, with at most
-- $4 bytes, but at least one; all that were set aside are among them. The changes are the oldest ones,
-- at most $5. The generations are those of the series of tenants $6, in their order, with commas between.
-- The bounds are the first and the last time of what is drained of each; NULL while nothing was drained or
-- changed since the arrival $7 and change $2.
WITH state AS MATERIALIZED (
    SELECT
        database_epoch() AS epoch,
        d.drained_through,
        d.changes_pruned_through,
        greatest(d.drained_through, (SELECT max(a.id) FROM arrival AS a)) AS last_id,
        greatest(d.changes_pruned_through, (SELECT max(c.id) FROM sample_change AS c)) AS last_change,
        EXISTS (SELECT FROM arrival AS a WHERE a.is_aside) AS has_aside,
        ARRAY(
            SELECT (
                SELECT coalesce(sum(g.generation), 0)::bigint
                FROM series_generation AS g
                WHERE g.tenant_id = t.id
            )
            FROM unnest(string_to_array($6, ',')::integer[]) WITH ORDINALITY AS t (id, n)
            ORDER BY t.n
        ) AS generations
    FROM drain_state AS d
)
SELECT
    s.epoch,
    s.drained_through,
    s.last_id,
    s.last_change,
    s.generations,
    $2 < s.changes_pruned_through AS is_gap,
    CASE WHEN s.drained_through <> $7::bigint OR s.last_change <> $2 THEN
        drained_bounds(string_to_array($6, ',')::integer[])
    END AS bounds,
    r.*
FROM state AS s
-- Without OFFSET, the function would be called before the condition is looked at.
LEFT JOIN LATERAL (
    SELECT n.*
    FROM news_since($1, $2, $3, $4, $5) AS n
    WHERE s.last_id > $1 OR s.last_change > $2 OR s.has_aside
    OFFSET 0
) AS r ON true

-- undrained --
-- How many undrained arrivals and samples each tenant has, and the memory that they need, with $1 bytes for a
-- sample and $2 for an arrival. Those that were set aside do not count: no drain will take them.
SELECT
    tenant_id,
    count(*) AS n_arrivals,
    sum(n_samples)::bigint AS n_samples,
    sum(greatest($1::bigint * n_samples, unpacked_bytes(payload)) + $2::bigint)::bigint AS n_bytes
FROM arrival
WHERE NOT is_aside
GROUP BY tenant_id
