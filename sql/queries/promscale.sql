-- is_promscale --
-- Whether the database has the tables of a Promscale's metrics that we read.
SELECT to_regclass('_prom_catalog.metric') IS NOT NULL
    AND EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = '_prom_catalog' AND table_name = 'metric' AND column_name = 'is_view'
    )

-- metrics --
-- Metrics and the tables of their samples; views are made of samples that are read from the tables.
SELECT id, metric_name, table_schema, table_name
FROM _prom_catalog.metric
WHERE creation_completed AND NOT is_view
ORDER BY id

-- series_of_metric --
-- The series of metric $1 with their labels; 0 in the array stands for a label that is absent.
-- What Promscale has marked as deleted is left out.
SELECT s.id, array_agg(l.key) AS names, array_agg(l.value) AS label_values
FROM _prom_catalog.series AS s
CROSS JOIN LATERAL unnest(s.labels) AS u (label_id)
INNER JOIN _prom_catalog.label AS l ON l.id = u.label_id
WHERE s.metric_id = $1 AND s.delete_epoch IS NULL
GROUP BY s.id

-- samples_of_table --
-- The samples of a table in [$1, $2] (Unix ms) by series; the name of the table is written out.
SELECT
    series_id,
    array_agg(round(date_part('epoch', time) * 1000)::bigint) AS times,
    array_agg(value) AS sample_values
FROM {table}
WHERE time >= timestamptz 'epoch' + $1::bigint * interval '1 millisecond'
    AND time < timestamptz 'epoch' + ($2::bigint + 1) * interval '1 millisecond'
GROUP BY series_id
