-- detect_capabilities --
-- What this database is: the license setting alone tells Community from Apache.
SELECT
    current_setting('server_version') AS server_version,
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb_version,
    current_setting('timescaledb.license', true) AS timescaledb_license,
    (SELECT relkind = 'p' FROM pg_class WHERE oid = 'sample'::regclass) AS is_partitioned

-- database_state --
-- Which course of events this database is on, the number of the last removal of series, and what was
-- removed after number $1: NULL when records of it are gone.
SELECT
    i.id AS installation_id,
    database_epoch() AS epoch,
    removal_position() AS position,
    CASE WHEN $1::bigint >= removal_position() THEN '{}'
        WHEN $1 + 1 >= (SELECT min(r.position) FROM series_removal AS r) THEN (
            SELECT array_agg(u.id)
            FROM series_removal AS r
            CROSS JOIN LATERAL unnest(r.series_ids) AS u (id)
            WHERE r.position > $1
        )
    END AS removed
FROM installation AS i

-- sample_table --
-- What the table of samples is: its kind, NULL without one, and whether the extension is here.
SELECT
    (SELECT relkind FROM pg_class WHERE oid = to_regclass('promcompat.sample')) AS kind,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS has_timescaledb

-- is_hypertable --
-- Whether TimescaleDB knows the table of samples; only asked where the extension is.
SELECT EXISTS (
    SELECT FROM timescaledb_information.hypertables
    WHERE hypertable_schema = 'promcompat' AND hypertable_name = 'sample'
)

-- set_known_epoch --
-- Says for the statements of this session that store samples what the process knows.
SELECT set_config('promcompat.epoch', $1, false)

-- backend_pid --
-- The server process that serves this session.
SELECT pg_backend_pid()

-- session_setting --
-- A setting as this session has it; NULL for one that does not exist.
SELECT current_setting($1, true)

-- is_read_only --
-- Whether nothing can be written here: on a standby, or by the settings of the role or database.
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'

-- ping --
-- Answers when the database does.
SELECT 1

-- find_tenant --
-- The id of a tenant, if it ever wrote.
SELECT id FROM tenant WHERE name = $1

-- create_tenant --
-- Makes a tenant if there are fewer than so many; a concurrent first write may have made it already.
INSERT INTO tenant (name)
SELECT $1 WHERE (SELECT count(*) FROM tenant) < $2::bigint
ON CONFLICT (name) DO NOTHING

-- resolve_series --
-- Ids of many series in one statement, made where missing: one call each gave Promscale 320-490/s.
-- Locks are taken in the order given, the same for every writer, so none deadlock; ids ascend by
-- `place`. A row that another transaction committed meanwhile is in neither half; the caller asks
-- again for it.
-- `counted` runs after all of `inserted`: who waits for its row holds no key its owner waits for.
WITH wanted AS (
    SELECT *
    FROM unnest($2::bytea[], $3::text[], $4::text[], $5::integer[])
        WITH ORDINALITY AS u (fingerprint, metric_name, labels, place, ordinal)
),
existing AS (
    SELECT s.id, s.fingerprint
    FROM wanted AS w
    JOIN series AS s ON s.tenant_id = $1 AND s.fingerprint = w.fingerprint
),
numbered AS (
    SELECT m.*, take_series_id() AS id
    FROM (
        SELECT * FROM wanted AS w
        WHERE NOT EXISTS (SELECT FROM existing AS e WHERE e.fingerprint = w.fingerprint)
        ORDER BY w.place
    ) AS m
),
inserted AS (
    INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)
    SELECT n.id, $1, n.metric_name, n.labels::jsonb, n.fingerprint
    FROM numbered AS n
    ORDER BY n.ordinal
    ON CONFLICT (tenant_id, fingerprint) DO NOTHING
    RETURNING id, fingerprint
),
counted AS (
    INSERT INTO series_generation AS g (tenant_id, slot, generation)
    SELECT $1, pg_backend_pid() % 8, change_stamp()
    WHERE (SELECT count(*) FROM inserted) > 0
    ON CONFLICT (tenant_id, slot)
    DO UPDATE SET generation = greatest(g.generation + 1, excluded.generation)
)
SELECT id, fingerprint FROM existing
UNION ALL
SELECT id, fingerprint FROM inserted

-- series_generation --
-- Changes whenever a tenant's series do; asked for before what is cached under it is used or made.
SELECT
    database_epoch() AS epoch,
    (
        SELECT coalesce(sum(g.generation), 0)::bigint
        FROM series_generation AS g
        WHERE g.tenant_id = $1
    ) AS generation

-- read_state --
-- The same, the days from $2 to $3 whose samples changed late and how often, and the snapshot of a
-- query: one of equal text shows the same rows.
SELECT
    database_epoch() AS epoch,
    pg_current_snapshot()::text AS snapshot,
    (
        SELECT coalesce(sum(g.generation), 0)::bigint
        FROM series_generation AS g
        WHERE g.tenant_id = $1
    ) AS generation,
    array_agg(l.day ORDER BY l.day) AS days,
    array_agg(l.generation ORDER BY l.day) AS late_writes
FROM late_write AS l
WHERE l.tenant_id = $1 AND l.day BETWEEN $2 AND $3

-- late_writes --
-- The days from $2 to $3 whose samples changed late, and how often.
SELECT
    database_epoch() AS epoch,
    array_agg(l.day) AS days,
    array_agg(l.generation) AS late_writes
FROM late_write AS l
WHERE l.tenant_id = $1 AND l.day BETWEEN $2 AND $3

-- count_late_writes --
-- Count days of the tenants of given series as changed, in one order for all writers, so that none
-- deadlock, and note the hours $3. The last statement of its transaction: its row locks make other
-- late writers wait.
WITH tenants AS MATERIALIZED (
    SELECT DISTINCT s.tenant_id FROM series AS s WHERE s.id = ANY($1::bigint[])
),
noted AS (
    INSERT INTO hourly_change (tenant_id, hour)
    SELECT t.tenant_id, h.hour FROM tenants AS t CROSS JOIN unnest($3::bigint[]) AS h (hour)
)
INSERT INTO late_write AS l (tenant_id, day, generation)
SELECT t.tenant_id, d.day, change_stamp()
FROM tenants AS t
CROSS JOIN unnest($2::integer[]) AS d (day)
ORDER BY t.tenant_id, d.day
ON CONFLICT (tenant_id, day)
DO UPDATE SET generation = greatest(l.generation + 1, excluded.generation)

-- labels_of_series --
-- The label sets of given series, which never change.
SELECT id, metric_name, labels::text AS labels FROM series WHERE id = ANY($1::bigint[])

-- metric_names --
-- The distinct metric names of a tenant.
SELECT metric_name FROM metric_names_of($1) AS n (metric_name)

-- live_metric_names --
-- Those of them that have a sample from $2 to $3, Unix ms (NULL: from the first, to the last one).
-- The series of a name are probed until the first that has: OFFSET 0 keeps it from being a join.
SELECT n.metric_name
FROM metric_names_of($1) AS n (metric_name)
WHERE n.metric_name <> '' AND EXISTS (
    SELECT
    FROM series AS s
    WHERE s.tenant_id = $1 AND s.metric_name = n.metric_name AND EXISTS (
        SELECT
        FROM sample AS p
        WHERE p.series_id = s.id
            AND ($2::bigint IS NULL OR p.ts >= from_unix_ms($2))
            AND ($3::bigint IS NULL OR p.ts < from_unix_ms($3 + 1))
        OFFSET 0
    )
    OFFSET 0
)

-- catalogue_items --
-- The values of label $3 of the tenant's series ($2: of those, NULL: of all), or with '' the sets of
-- names they have, each as JSON: in the order of their bytes, 0-terminated but for the last. Beside
-- them the newest series of each and how many there are. One row of packed columns: numpy and
-- str.split read 100,000 of them at once.
SELECT
    string_agg(
        convert_to(
            CASE $3::text WHEN '' THEN array_to_json(g.value::text[])::text ELSE g.value END, 'UTF8'
        ),
        '\x00'::bytea
        ORDER BY g.value
    ) AS items,
    string_agg(int8send(g.newest), ''::bytea ORDER BY g.value) AS series_ids,
    string_agg(int8send(g.size), ''::bytea ORDER BY g.value) AS sizes
FROM (
    SELECT v.value COLLATE "C" AS value, max(v.id) AS newest, count(*) AS size
    FROM (
        SELECT
            s.id,
            CASE $3::text
                WHEN '' THEN (
                    CASE WHEN s.metric_name = '' THEN '{}'::text[] ELSE '{__name__}' END
                    || ARRAY(SELECT jsonb_object_keys(s.labels))
                )::text
                WHEN '__name__' THEN nullif(s.metric_name, '')
                ELSE s.labels ->> $3::text
            END AS value
        FROM series AS s
        WHERE s.tenant_id = $1 AND ($2::bigint[] IS NULL OR s.id = ANY($2))
    ) AS v
    WHERE v.value IS NOT NULL
    GROUP BY 1
) AS g

-- live_catalogue_items --
-- Which of the items $4 of the same list have any series with a sample from $5 to $6, Unix ms (NULL:
-- from the first, to the last one). Beside them, packed, that series and the time of its newest one.
SELECT
    string_agg(convert_to(g.value, 'UTF8'), '\x00'::bytea) AS items,
    string_agg(int8send(f.series_id) || int8send(f.unix_ms), ''::bytea) AS seen
FROM (
    SELECT v.value, array_agg(v.id) AS ids
    FROM (
        SELECT
            s.id,
            CASE $3::text
                WHEN '' THEN array_to_json(
                    CASE WHEN s.metric_name = '' THEN '{}'::text[] ELSE '{__name__}' END
                    || ARRAY(SELECT jsonb_object_keys(s.labels))
                )::text
                WHEN '__name__' THEN nullif(s.metric_name, '')
                ELSE s.labels ->> $3::text
            END AS value
        FROM series AS s
        WHERE s.tenant_id = $1 AND ($2::bigint[] IS NULL OR s.id = ANY($2))
    ) AS v
    WHERE v.value = ANY($4::text[])
    GROUP BY 1
) AS g
CROSS JOIN LATERAL (
    SELECT i.series_id, floor(extract(epoch FROM n.ts) * 1000)::bigint AS unix_ms
    FROM unnest(g.ids) AS i (series_id)
    CROSS JOIN LATERAL (
        SELECT p.ts
        FROM sample AS p
        WHERE p.series_id = i.series_id
            AND ($5::bigint IS NULL OR p.ts >= from_unix_ms($5))
            AND ($6::bigint IS NULL OR p.ts < from_unix_ms($6 + 1))
        ORDER BY p.ts DESC
        LIMIT 1
    ) AS n
    LIMIT 1
) AS f

-- sample_bounds --
-- Unix ms of the first and the last sample of a tenant. Two index probes for each series.
SELECT
    floor(extract(epoch FROM min(o.ts)) * 1000)::bigint AS first_ms,
    floor(extract(epoch FROM max(n.ts)) * 1000)::bigint AS last_ms
FROM series AS s
CROSS JOIN LATERAL (
    SELECT p.ts FROM sample AS p WHERE p.series_id = s.id ORDER BY p.ts LIMIT 1
) AS o
CROSS JOIN LATERAL (
    SELECT p.ts FROM sample AS p WHERE p.series_id = s.id ORDER BY p.ts DESC LIMIT 1
) AS n
WHERE s.tenant_id = $1

-- newest_samples --
-- The Unix ms of the newest sample of each of the series $1 that has any from $2 to $3 (NULL as
-- above). Packed: the number of the series in the list, from 1 on, and the time.
SELECT string_agg(
    int8send(u.ordinal) || int8send(floor(extract(epoch FROM n.ts) * 1000)::bigint), ''::bytea
)
FROM unnest($1::bigint[]) WITH ORDINALITY AS u (series_id, ordinal)
CROSS JOIN LATERAL (
    SELECT p.ts
    FROM sample AS p
    WHERE p.series_id = u.series_id
        AND ($2::bigint IS NULL OR p.ts >= from_unix_ms($2))
        AND ($3::bigint IS NULL OR p.ts < from_unix_ms($3 + 1))
    ORDER BY p.ts DESC
    LIMIT 1
) AS n

-- stored_samples --
-- What is stored of given keys; float8send gives the exact bits. One index probe for each key:
-- OFFSET 0 keeps the planner from hashing a whole day of samples instead.
SELECT u.ordinal, s.bits
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (series_id, unix_ms, ordinal)
CROSS JOIN LATERAL (
    SELECT float8send(p.value) AS bits
    FROM sample AS p
    WHERE p.series_id = u.series_id
        AND p.ts = from_unix_ms(u.unix_ms)
        AND p.ts >= from_unix_ms($3)
        AND p.ts <= from_unix_ms($4)
    OFFSET 0
) AS s

-- next_free_times --
-- For each of the series $1 the first millisecond after $2 at which it has no sample. $3 is the
-- earliest of the times $2: it excludes older chunks.
SELECT u.ordinal, floor(extract(epoch FROM f.ts) * 1000)::bigint + 1 AS unix_ms
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (series_id, unix_ms, ordinal)
CROSS JOIN LATERAL (
    SELECT p.ts
    FROM sample AS p
    WHERE p.series_id = u.series_id
        AND p.ts >= from_unix_ms(u.unix_ms)
        AND p.ts >= from_unix_ms($3)
        AND NOT EXISTS (
            SELECT
            FROM sample AS q
            WHERE q.series_id = p.series_id
                AND q.ts = p.ts + interval '1 millisecond'
                AND q.ts >= from_unix_ms($3)
        )
    ORDER BY p.ts
    LIMIT 1
) AS f

-- create_staging --
-- Where rows go first when others store the same keys at the same time; once a connection.
CREATE TEMPORARY TABLE sample_staging (
    row_number integer NOT NULL,
    series_id bigint NOT NULL,
    ts timestamptz NOT NULL,
    value float8 NOT NULL
) ON COMMIT DELETE ROWS

-- insert_staged_samples --
-- Stores staged rows; of rows with one key the stored or else the first one stays.
INSERT INTO sample (series_id, ts, value)
SELECT series_id, ts, value FROM sample_staging ORDER BY series_id, ts, row_number
ON CONFLICT (series_id, ts) DO NOTHING

-- staged_conflicts --
-- Staged rows whose stored sample has other bits; float8send tells -0 from 0 and NaNs apart.
-- OFFSET 0 keeps one index probe for each row, as above.
SELECT g.row_number, s.value AS existing
FROM sample_staging AS g
CROSS JOIN LATERAL (
    SELECT p.value
    FROM sample AS p
    WHERE p.series_id = g.series_id
        AND p.ts = g.ts
        AND p.ts >= from_unix_ms($1)
        AND p.ts <= from_unix_ms($2)
    OFFSET 0
) AS s
WHERE float8send(s.value) <> float8send(g.value)
ORDER BY g.row_number

-- create_sample_partitions --
-- Partitions of the given days on plain PostgreSQL.
SELECT create_sample_partitions($1::bigint[])

-- store_metadata --
-- What senders say of metric families; rows that would not change are left alone.
INSERT INTO metric_metadata AS m (tenant_id, family, type, help, unit)
SELECT $1, u.family, u.type, u.help, u.unit
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS u (family, type, help, unit)
ORDER BY u.family
ON CONFLICT (tenant_id, family) DO UPDATE
SET type = excluded.type, help = excluded.help, unit = excluded.unit
WHERE (m.type, m.help, m.unit) IS DISTINCT FROM (excluded.type, excluded.help, excluded.unit)

-- list_metadata --
-- Metadata of one family, or of all when it is NULL; a definition wins over what senders say.
SELECT
    coalesce(d.name, m.family) AS family,
    coalesce(d.type, m.type) AS type,
    coalesce(nullif(d.description, ''), m.help, '') AS help,
    coalesce(nullif(d.unit, ''), m.unit, '') AS unit
FROM (SELECT * FROM metric_metadata WHERE tenant_id = $1) AS m
FULL JOIN (SELECT * FROM metric_definition WHERE tenant_id = $1) AS d ON d.name = m.family
WHERE $2::text IS NULL OR coalesce(d.name, m.family) = $2
ORDER BY 1
