-- Dashboards of tenants, by the uid in their address. The document (promcompat/dashboards/model.py) is that
-- of the newest version; title and tags are copies of what it has, for lists.
CREATE TABLE dashboard (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    uid text COLLATE "C" NOT NULL CHECK (uid ~ '^[A-Za-z0-9_-]{1,40}$'),
    version bigint NOT NULL,
    title text NOT NULL,
    tags text[] NOT NULL,
    -- The file that it is provisioned from; empty: it is changed by the API.
    source text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, uid)
);

-- What dashboards were before, the newest version included. Old ones are removed when another is saved.
CREATE TABLE dashboard_version (
    dashboard_id bigint NOT NULL REFERENCES dashboard (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    document jsonb NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now(),
    saved_by text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (dashboard_id, version)
);

-- Versions are numbered through over all dashboards, so that one that is deleted and made again does not
-- have the version, and the ETag, of another document.
CREATE SEQUENCE dashboard_version_number;
