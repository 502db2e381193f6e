-- The audit trail: who asked for a change, of what, and how it ended (promcompat/core/audit.py). A year of it
-- is kept.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text COLLATE "C" NOT NULL,
    -- The name, because a tenant exists only after its first write; empty: the whole service.
    tenant text COLLATE "C" NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    -- NULL: the outcome is unknown.
    status smallint,
    request text NOT NULL DEFAULT ''
);
CREATE INDEX audit_tenant ON audit (tenant, id DESC);
CREATE INDEX audit_at ON audit (at);
