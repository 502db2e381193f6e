-- start --
-- Where a head that may hold $1 bytes begins, with $2 bytes for a sample or what a page with histograms
-- needs: the newest arrivals with at most that many bytes together come after held_after. last_change is
-- the newest change.
WITH measured AS (
    SELECT
        a.id,
        sum(greatest($2::bigint * a.n_samples, unpacked_bytes(a.payload))) OVER (ORDER BY a.id DESC) AS n_bytes
    FROM arrival AS a
    WHERE NOT a.is_aside
)
SELECT
    greatest(s.drained_through, (SELECT max(m.id) FROM measured AS m WHERE m.n_bytes > $1::bigint))
    AS held_after,
    greatest(s.changes_pruned_through, (SELECT max(c.id) FROM sample_change AS c)) AS last_change
FROM drain_state AS s

-- undrained_deletions --
-- The undrained deletions up to arrival $1.
SELECT
    id, tenant_id, kind, n_samples, first_series, last_series, first_ms, last_ms, is_aside, payload
FROM arrival
WHERE id <= $1 AND kind = 3 AND NOT is_aside
ORDER BY id

-- undrained_samples --
-- Arrivals of tenant $1 from behind id $2 to id $3 with samples in ($4, $5] ms, the oldest $6 of them.
SELECT
    id, tenant_id, kind, n_samples, first_series, last_series, first_ms, last_ms, is_aside, payload
FROM arrival
WHERE
    id > $2 AND id <= $3 AND tenant_id = $1 AND kind IN (1, 2) AND NOT is_aside
    AND last_ms > $4 AND first_ms <= $5
ORDER BY id
LIMIT $6

-- export_snapshot --
-- A name by which other transactions can adopt the snapshot of this one.
SELECT pg_export_snapshot()

-- adopt_snapshot --
-- Lets a transaction that has read nothing see what the one that exported a snapshot sees.
SET TRANSACTION SNAPSHOT $1
