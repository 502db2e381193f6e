-- Overrides of the limits of a tenant, by name (promcompat/core/limit_definitions.py). A row stays when its
-- last override goes, so that no version repeats.
CREATE TABLE tenant_limit (
    tenant_id integer PRIMARY KEY REFERENCES tenant (id),
    overrides jsonb NOT NULL,
    version bigint NOT NULL
);

-- How many series a tenant has: the sum over its slots. find_or_make_series and the removal of series
-- count them in the row that they update anyway. Series that SQL users insert are not counted.
ALTER TABLE series_generation ADD COLUMN n_series bigint NOT NULL DEFAULT 0;
INSERT INTO series_generation AS g (tenant_id, slot, generation, n_series)
SELECT s.tenant_id, 0, 0, count(*)
FROM series AS s
GROUP BY s.tenant_id
ON CONFLICT (tenant_id, slot) DO UPDATE SET n_series = excluded.n_series;
