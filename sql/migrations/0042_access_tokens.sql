-- Tokens: who may use the service. Their texts are not stored, only the SHA-256 of each.
CREATE TABLE access_token (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    digest bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    roles text[] NOT NULL CHECK (cardinality(roles) > 0),
    -- NULL: every tenant. Names, because a tenant exists only after its first write.
    tenants text[] CHECK (cardinality(tenants) > 0),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: never.
    expires_at timestamptz,
    last_used_at timestamptz,
    -- What was revoked is kept for a year, so that names in audits can be explained.
    revoked_at timestamptz,
    revoked_by text
);

-- A name tells who did something, so no two tokens have the same one at a time.
CREATE UNIQUE INDEX access_token_name ON access_token (name) WHERE revoked_at IS NULL;

-- One row: the version grows, in the transaction that makes or revokes a token.
CREATE TABLE access_state (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    version bigint NOT NULL
);
INSERT INTO access_state (version) VALUES (1);
