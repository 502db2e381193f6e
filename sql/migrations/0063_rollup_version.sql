-- Another number each time when rollups of a tenant were written or deleted: as long as it stays the same, a
-- process may keep the ones that it has read. Written by holders of `drain_order` only.
CREATE TABLE rollup_version (
    tenant_id integer PRIMARY KEY,
    version bigint GENERATED ALWAYS AS IDENTITY
) WITH (fillfactor = 50);
