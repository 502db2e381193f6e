-- Runs that later merges take, and those of the merge after the end of their day, in partitions of their own.
-- A merge writes behind what it deletes. In one table its last runs kept the space before them from being
-- returned; now all that is left of a day is in the second partition, and vacuum truncates the first one.

DROP VIEW IF EXISTS visible_run;
ALTER TABLE sample_run RENAME TO sample_run_of_all;
ALTER INDEX sample_run_tenant RENAME TO sample_run_of_all_tenant;
ALTER INDEX sample_run_group RENAME TO sample_run_of_all_group;

-- As in migration 0014, but for its ids: before version 17, partitioned tables have no identity columns.
CREATE SEQUENCE sample_run_ids;
CREATE TABLE sample_run (LIKE sample_run_of_all INCLUDING COMPRESSION) PARTITION BY RANGE (level);
ALTER TABLE sample_run ALTER COLUMN id SET DEFAULT nextval('sample_run_ids');
ALTER SEQUENCE sample_run_ids OWNED BY sample_run.id;
CREATE TABLE sample_run_early PARTITION OF sample_run FOR VALUES FROM (MINVALUE) TO (100);
CREATE TABLE sample_run_final PARTITION OF sample_run FOR VALUES FROM (100) TO (MAXVALUE);

INSERT INTO sample_run SELECT * FROM sample_run_of_all ORDER BY id;
SELECT setval('sample_run_ids', (SELECT coalesce(max(id), 0) + 1 FROM sample_run), false);
DROP TABLE sample_run_of_all;
-- A level never changes from below 100 to above or back, so an id is in one partition.
CREATE INDEX sample_run_id ON sample_run (id);
CREATE INDEX sample_run_tenant ON sample_run (tenant_id, last_ms, first_ms);
CREATE INDEX sample_run_group ON sample_run (tenant_id, slot, level, last_arrival)
    INCLUDE (n_samples, n_series);
