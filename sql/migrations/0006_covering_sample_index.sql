-- The sample index holds the values too, so that selections are read from it alone; and vacuum comes
-- by often enough to say which pages may be.

-- The old index goes first: its name and its disk space are the new one's, at the commit.
DROP INDEX sample_series_ts;
CREATE UNIQUE INDEX sample_series_ts ON sample (series_id, ts) INCLUDE (value);

-- Rows are added and seldom deleted: vacuum reads only pages that are new since the last time, and
-- freezes them at once, which saves rewriting old chunks for the age of their transactions.
-- A partitioned table takes no storage parameters: its partitions do. A hypertable hands them on.
DO $$
DECLARE
    target regclass;
BEGIN
    FOR target IN
        SELECT oid FROM pg_class WHERE oid = 'sample'::regclass AND relkind = 'r'
        UNION ALL
        SELECT i.inhrelid
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhparent
        WHERE c.oid = 'sample'::regclass AND c.relkind = 'p'
    LOOP
        EXECUTE format(
            'ALTER TABLE %s SET ('
            'autovacuum_vacuum_insert_threshold = 10000, autovacuum_vacuum_insert_scale_factor = 0, '
            'autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, '
            'autovacuum_freeze_min_age = 0)',
            target
        );
    END LOOP;
END
$$;
