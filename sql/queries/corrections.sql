-- record_correction --
-- Appends the arrivals of a correction ($1 to $16, see append_arrivals) and records it as done, in one
-- transaction; returns its id. $29 are the series, whose thresholds are reviewed.
-- The reviews come first: a session of thresholds that has the row of one appends samples before it commits, so
-- that nobody may wait for the row while he holds the order of arrivals.
WITH reviewed AS MATERIALIZED (
    SELECT review_thresholds(
        $17::integer,
        (SELECT array_agg(DISTINCT s.metric_name) FROM series AS s WHERE s.id = ANY($29::bigint[]))
    )
),
appended AS MATERIALIZED (
    SELECT append_arrivals(
        $1, $2::integer[], $3::bigint[], $4, $5::integer[], $6::smallint[], $7::integer[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[], $13::bigint[],
        $14::smallint[], $15::float8[], $16::bigint[]
    ) AS ids
    FROM reviewed
)
INSERT INTO correction (
    tenant_id, kind, selectors, first_ms, last_ms, requested_by, reason, n_series, n_series_done,
    n_samples, is_counted, worker, state, finished_at, first_arrival, last_arrival
)
SELECT
    $17::integer, $18::text, $19::text[], $20::bigint, $21::bigint, $22::text, $23::text,
    $24::integer, $25::integer, $26::bigint, $27::boolean, $28::text, 'done', clock_timestamp(),
    appended.ids[1], appended.ids[cardinality(appended.ids)]
FROM appended
RETURNING id

-- begin_correction --
-- Records a correction that is done in steps, and its series $13; returns its id.
WITH begun AS (
    INSERT INTO correction (
        tenant_id, kind, selectors, first_ms, last_ms, requested_by, reason, factor, addend, labels,
        n_series, n_series_done, n_samples, is_counted, worker, state
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, $11, 0, 0, true, $12, 'running')
    RETURNING id
),
listed AS (
    INSERT INTO correction_series (correction_id, series_id)
    SELECT begun.id, w.series_id
    FROM begun
    CROSS JOIN unnest($13::bigint[]) AS w (series_id)
)
SELECT id FROM begun

-- claim_correction --
-- The running correction that was worked on least recently, for process $1; another process has not
-- worked on it for $2 seconds.
UPDATE correction AS c
SET worker = $1, worked_at = clock_timestamp()
WHERE c.id = (
    SELECT r.id
    FROM correction AS r
    WHERE r.state = 'running'
        AND (r.worker = $1 OR r.worked_at < clock_timestamp() - make_interval(secs => $2))
    ORDER BY r.worked_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING c.id

-- running_correction --
-- What the next step of a correction needs to know; no row unless it is running.
SELECT
    c.id, c.tenant_id, t.name AS tenant, c.kind, c.first_ms, c.last_ms, c.factor, c.addend,
    c.labels::text AS labels, c.step, c.series_done, c.chunk_through, c.times_done_ms
FROM correction AS c
JOIN tenant AS t ON t.id = c.tenant_id
WHERE c.id = $1 AND c.state = 'running'

-- next_correction_series --
-- The series of correction $1 after series $2: up to series $3, or (NULL) the first $4.
SELECT coalesce(array_agg(n.series_id ORDER BY n.series_id), '{}')
FROM (
    SELECT series_id
    FROM correction_series
    WHERE correction_id = $1 AND series_id > $2 AND ($3::bigint IS NULL OR series_id <= $3)
    ORDER BY series_id
    LIMIT $4
) AS n

-- append_correction_step --
-- Does a step; the parameters are those of the function.
SELECT append_correction_step(
    $1, $2::integer[], $3::bigint[], $4, $5::integer[], $6::smallint[], $7::integer[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[], $13::bigint[], $14::smallint[],
    $15::float8[], $16::bigint[], $17, $18, $19, $20, $21, $22, $23, $24, $25::bigint[],
    $26, $27
)

-- finish_correction --
-- Ends correction $1, whose last step was $2, in state $3 because of $4; returns whether it was running.
WITH ended AS (
    UPDATE correction
    SET state = $3, failure = $4, finished_at = clock_timestamp()
    WHERE id = $1 AND step = $2 AND state = 'running'
    RETURNING id, tenant_id, labels
),
listed AS (
    DELETE FROM correction_series AS l
    USING ended
    WHERE l.correction_id = ended.id
    RETURNING l.series_id
),
reviewed AS MATERIALIZED (
    SELECT review_thresholds(
        ended.tenant_id,
        (
            SELECT array_agg(DISTINCT s.metric_name) || (ended.labels ->> '__name__')
            FROM listed AS l
            JOIN series AS s ON s.id = l.series_id
        )
    )
    FROM ended
)
SELECT count(*) = 1 FROM ended CROSS JOIN reviewed

-- corrections --
-- Corrections of tenant $1 before $2, the newest first, at most $4; or ($3) the one with an id.
SELECT
    c.id, c.kind, c.selectors, c.first_ms, c.last_ms, c.factor, c.addend, c.labels::text AS labels,
    c.requested_by, c.reason, c.state, c.failure,
    floor(extract(epoch FROM c.requested_at) * 1000)::bigint AS requested_ms,
    floor(extract(epoch FROM c.finished_at) * 1000)::bigint AS finished_ms,
    c.n_series, c.n_series_done, c.n_samples, c.is_counted,
    c.first_arrival IS NOT NULL AND (
        EXISTS (
            SELECT FROM arrival AS a
            WHERE a.id BETWEEN c.first_arrival AND c.last_arrival AND a.kind = 3
        )
        OR EXISTS (
            SELECT FROM sample_deletion AS d
            WHERE d.arrival_id BETWEEN c.first_arrival AND c.last_arrival
        )
    ) AS has_tombstones
FROM correction AS c
WHERE c.tenant_id = $1 AND c.id < $2 AND ($3::bigint IS NULL OR c.id = $3)
ORDER BY c.id DESC
LIMIT $4

-- has_tombstones --
-- Whether a deletion of tenant $1 up to arrival $2 is not worked off.
SELECT
    EXISTS (SELECT FROM arrival WHERE tenant_id = $1 AND id <= $2 AND kind = 3 AND NOT is_aside)
    OR EXISTS (SELECT FROM sample_deletion WHERE tenant_id = $1 AND arrival_id <= $2)

-- last_arrival --
-- The last id of an arrival.
SELECT last_arrival()
