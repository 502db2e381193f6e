-- What SQL users read: a policy of `series` whose tenant reaches an index, and views of single metrics.

-- sql/routines/0030_sql_readers.sql makes it again, with `tenant_id = ANY (…)`: a condition with OR cannot
-- be looked up in an index. Until then, which is within the same start, readers see no series.
DROP POLICY IF EXISTS series_of_visible_tenants ON series;

-- The views that `create_metric_view` made. `labels` are the labels that have a column, in the order of the
-- columns; a view is never made with fewer.
CREATE TABLE metric_view (
    view_name name PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    metric_name text COLLATE "C" NOT NULL,
    labels text[] NOT NULL
);
