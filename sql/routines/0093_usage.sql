-- What is said of tenants, metrics and series, and how much each tenant stores: `tenants`, `definitions`,
-- `metrics_start`, `usage` and `usage_by_day`. The usage is read from catalogues and from what is written beside pages (their number of
-- samples, and how many of a day are in blocks). Nothing is decoded.

-- The tenants that the caller may read, by name.
CREATE OR REPLACE VIEW tenants WITH (security_barrier) AS
SELECT t.id, t.name
FROM tenant AS t
WHERE t.id = ANY (ARRAY(SELECT readable_tenants(current_user)));

-- What application teams said of their metrics.
CREATE OR REPLACE VIEW definitions WITH (security_barrier) AS
SELECT d.tenant_id, d.name, d.display_name, d.description, d.unit, d.type, d.aggregation,
    d.retention_days, d.duplicate_policy, d.alert_threshold, d.version, d.created_at, d.updated_at
FROM metric_definition AS d
WHERE d.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)));

-- When the counters of series began, as their senders say, and the first sample that says so. What holds at
-- a time is the row with the latest start before it.
CREATE OR REPLACE VIEW metrics_start WITH (security_barrier) AS
SELECT s.tenant_id, s.metric_name AS name, s.labels, from_unix_ms(t.start_ms) AS start_time,
    from_unix_ms(t.from_ms) AS first_sample, s.id AS series_id
FROM series_start AS t
JOIN series AS s ON s.id = t.series_id
WHERE s.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)));

-- The starts of series that are gone or have newer ones: `most` of these, or one of which samples have
-- expired. Of the series after one and up to another.
DROP FUNCTION IF EXISTS excess_series_starts(integer);
CREATE OR REPLACE FUNCTION excess_series_starts(
    most integer,
    after_series bigint DEFAULT -9223372036854775808,
    through_series bigint DEFAULT 9223372036854775807
)
RETURNS TABLE (series_id bigint, start_ms bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT t.series_id, t.start_ms
    FROM (
        SELECT o.series_id, o.start_ms,
            lead(o.from_ms) OVER of_series AS next_ms,
            lead(o.from_ms, most) OVER of_series IS NOT NULL AS is_beyond
        FROM promcompat.series_start AS o
        WHERE o.series_id > after_series AND o.series_id <= through_series
        WINDOW of_series AS (PARTITION BY o.series_id ORDER BY o.start_ms)
    ) AS t
    LEFT JOIN promcompat.kept_series AS k ON k.id = t.series_id
    WHERE t.is_beyond OR k.id IS NULL OR promcompat.from_unix_ms(t.next_ms) < k.kept_from
$$;
REVOKE EXECUTE ON FUNCTION excess_series_starts(integer, bigint, bigint) FROM PUBLIC;

-- The families without a series of any name that theirs may have, which a sender described anew that many
-- seconds ago or earlier.
CREATE OR REPLACE FUNCTION unused_metadata(older_than_seconds double precision)
RETURNS TABLE (tenant_id integer, family text)
LANGUAGE sql STABLE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT m.tenant_id, m.family
    FROM promcompat.metric_metadata AS m
    WHERE m.stored_at <= now() - make_interval(secs => older_than_seconds)
        AND NOT EXISTS (
            SELECT FROM promcompat.series AS s
            WHERE s.tenant_id = m.tenant_id AND s.metric_name = ANY (ARRAY[
                m.family, m.family || '_bucket', m.family || '_count', m.family || '_created',
                m.family || '_gcount', m.family || '_gsum', m.family || '_info',
                m.family || '_sum', m.family || '_total'
            ])
        )
$$;
REVOKE EXECUTE ON FUNCTION unused_metadata(double precision) FROM PUBLIC;

-- The partitions of blocks and their size on disk, with indexes and TOAST.
CREATE OR REPLACE FUNCTION block_partition_sizes() RETURNS TABLE (slot integer, bytes bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    IF (SELECT c.relkind = 'p' FROM pg_class AS c WHERE c.oid = 'promcompat.sample_block'::regclass) THEN
        RETURN QUERY
        SELECT
            substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM \(''?(-?\d+)')::integer,
            pg_total_relation_size(c.oid)
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'promcompat.sample_block'::regclass;
    ELSE
        RETURN QUERY
        SELECT
            c.range_start_integer::integer,
            pg_total_relation_size(format('%I.%I', c.chunk_schema, c.chunk_name)::regclass)
        FROM timescaledb_information.chunks AS c
        WHERE c.hypertable_schema = 'promcompat' AND c.hypertable_name = 'sample_block';
    END IF;
END
$$;

-- The chunks, or partitions, of rows and their size on disk, compressed or not.
CREATE OR REPLACE FUNCTION row_chunk_sizes()
RETURNS TABLE (range_start timestamptz, range_end timestamptz, bytes bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    of_extension text := (
        SELECT quote_ident(n.nspname)
        FROM pg_extension AS e
        JOIN pg_namespace AS n ON n.oid = e.extnamespace
        WHERE e.extname = 'timescaledb'
    );
BEGIN
    IF (SELECT c.relkind = 'p' FROM pg_class AS c WHERE c.oid = 'promcompat.sample'::regclass) THEN
        RETURN QUERY
        SELECT c.range_start, c.range_end, pg_total_relation_size(c.chunk)
        FROM promcompat.sample_chunks() AS c;
    ELSE
        RETURN QUERY EXECUTE format(
            'SELECT c.range_start, c.range_end, s.total_bytes '
            'FROM promcompat.sample_chunks() AS c '
            'JOIN %s.chunks_detailed_size(''promcompat.sample'') AS s '
            'ON format(''%%I.%%I'', s.chunk_schema, s.chunk_name)::regclass = c.chunk',
            of_extension
        );
    END IF;
END
$$;

REVOKE EXECUTE ON FUNCTION block_partition_sizes() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION row_chunk_sizes() FROM PUBLIC;

-- How many rows each tenant has of each UTC day, by the hours that are kept.
CREATE OR REPLACE FUNCTION row_days() RETURNS TABLE (tenant_id integer, day date, n_samples numeric)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    -- `kept_hour` exists in the store `rows` only.
    IF (SELECT i.store = 'rows' FROM promcompat.installation AS i) THEN
        RETURN QUERY
        SELECT h.tenant_id, (h.bucket AT TIME ZONE 'UTC')::date, sum(h.count)
        FROM promcompat.kept_hour AS h
        GROUP BY 1, 2;
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION row_days() FROM PUBLIC;

-- What the caller's tenants store of each UTC day: how many samples, as they arrived, and bytes on disk.
-- Tenants share partitions of blocks, chunks of rows and their bytes in proportion to their samples. `day` is NULL
-- for the samples of days far from now. It has the rights of the owner, and shows the caller's tenants.
CREATE OR REPLACE FUNCTION stored_days()
RETURNS TABLE (tenant_id integer, day date, samples bigint, bytes bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    reader pg_catalog.name := promcompat.calling_role();
    tenants integer[];
    far_slot integer := -1073741824;
    -- The columns beside a payload. The size of a whole row would be found by reading its payload, too.
    row_bytes integer := 80;
BEGIN
    IF NOT promcompat.sees_all_tenants(reader) THEN
        tenants := ARRAY(SELECT promcompat.visible_tenants(reader));
    END IF;
    RETURN QUERY
    WITH page AS (
        SELECT a.tenant_id, date '1970-01-01' + floor(a.last_ms / 86400000.0)::integer AS day,
            a.n_samples, row_bytes + pg_column_size(a.payload) AS bytes
        FROM promcompat.arrival AS a
        WHERE a.kind IN (1, 2)
        UNION ALL
        SELECT r.tenant_id, CASE WHEN r.slot > far_slot
            THEN date '1970-01-01' + floor(r.slot / 8.0)::integer END,
            r.n_samples, row_bytes + pg_column_size(r.payload)
        FROM promcompat.sample_run AS r
    ),
    block AS (
        SELECT e.tenant_id, CASE WHEN e.slot > far_slot
            THEN date '1970-01-01' + floor(e.slot / 8.0)::integer END AS day,
            e.n_samples,
            p.bytes * (e.n_samples / nullif(sum(e.n_samples) OVER (PARTITION BY e.slot), 0)) AS bytes
        FROM (
            SELECT x.tenant_id, x.slot, x.unmerged_samples + x.merged_samples AS n_samples
            FROM promcompat.drained_extent AS x
        ) AS e
        LEFT JOIN promcompat.block_partition_sizes() AS p ON p.slot = e.slot
    ),
    row_share AS (
        SELECT d.tenant_id, d.day, d.n_samples,
            c.bytes * (d.n_samples / sum(d.n_samples) OVER (PARTITION BY c.range_start)) AS bytes
        FROM promcompat.row_days() AS d
        LEFT JOIN promcompat.row_chunk_sizes() AS c
            ON c.range_start <= d.day::timestamp AT TIME ZONE 'UTC'
            AND c.range_end > d.day::timestamp AT TIME ZONE 'UTC'
    )
    SELECT u.tenant_id, u.day, sum(u.n_samples)::bigint, coalesce(sum(u.bytes), 0)::bigint
    FROM (
        SELECT g.tenant_id, g.day, g.n_samples, g.bytes::numeric FROM page AS g
        UNION ALL
        SELECT b.tenant_id, b.day, b.n_samples, b.bytes FROM block AS b
        UNION ALL
        SELECT r.tenant_id, r.day, r.n_samples, r.bytes FROM row_share AS r
    ) AS u
    WHERE u.n_samples > 0 AND (tenants IS NULL OR u.tenant_id = ANY (tenants))
    GROUP BY u.tenant_id, u.day;
END
$$;

CREATE OR REPLACE VIEW usage_by_day WITH (security_barrier) AS
SELECT d.tenant_id, t.name AS tenant, d.day, d.samples, d.bytes
FROM stored_days() AS d
JOIN tenants AS t ON t.id = d.tenant_id;

-- One row for each tenant. `samples_per_day` is the mean of its last seven days before today that have
-- samples; `top_metrics` are the ten metrics with the most series.
CREATE OR REPLACE VIEW usage WITH (security_barrier) AS
SELECT t.id AS tenant_id, t.name AS tenant, s.series, coalesce(d.samples, 0) AS samples,
    coalesce(d.samples_per_day, 0) AS samples_per_day, coalesce(d.bytes, 0) AS bytes,
    d.first_day, d.last_day, s.top_metrics
FROM tenants AS t
CROSS JOIN LATERAL (
    SELECT coalesce(sum(m.series), 0)::bigint AS series,
        coalesce(
            jsonb_agg(jsonb_build_object('metric', m.metric, 'series', m.series) ORDER BY m.place)
                FILTER (WHERE m.place <= 10),
            '[]'
        ) AS top_metrics
    FROM (
        SELECT s.metric_name AS metric, count(*) AS series,
            row_number() OVER (ORDER BY count(*) DESC, s.metric_name) AS place
        FROM series AS s
        WHERE s.tenant_id = t.id
        GROUP BY s.metric_name
    ) AS m
) AS s
LEFT JOIN (
    SELECT d.tenant_id, sum(d.samples)::bigint AS samples, sum(d.bytes)::bigint AS bytes,
        min(d.day) AS first_day, max(d.day) AS last_day,
        (avg(d.samples) FILTER (WHERE d.age BETWEEN 1 AND 7))::bigint AS samples_per_day
    FROM (
        SELECT u.tenant_id, u.day, u.samples, u.bytes,
            (now() AT TIME ZONE 'UTC')::date - u.day AS age
        FROM stored_days() AS u
    ) AS d
    GROUP BY d.tenant_id
) AS d ON d.tenant_id = t.id;
