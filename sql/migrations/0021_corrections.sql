-- Corrections of stored samples: who deleted, replaced or moved what, and how far that is. Rows are kept.
CREATE TABLE correction (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    kind text NOT NULL CHECK (kind IN ('delete', 'replace', 'scale', 'rename')),
    -- PromQL selectors, for people; the series of a correction that is running are in correction_series.
    selectors text[] NOT NULL,
    -- Unix ms, both inclusive.
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    -- Of a `scale`: the new value is value * factor + addend.
    factor float8,
    addend float8,
    -- Of a `rename`: the labels that are set, `__name__` for the name; an empty value removes a label.
    labels jsonb,
    requested_by text NOT NULL,
    reason text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    failure text NOT NULL DEFAULT '',
    finished_at timestamptz,
    n_series integer NOT NULL,
    n_series_done integer NOT NULL,
    -- Samples that were deleted, replaced or moved until now; false: there were at least so many.
    n_samples bigint NOT NULL,
    is_counted boolean NOT NULL,
    -- The arrivals of a `delete` or `replace`, whose samples are removed from runs and blocks later.
    first_arrival bigint,
    last_arrival bigint,
    -- How many steps were done, and where the next one begins: all series up to `series_done` are done,
    -- and those up to `chunk_through` for times up to `times_done_ms`.
    step bigint NOT NULL DEFAULT 0,
    series_done bigint NOT NULL DEFAULT 0,
    chunk_through bigint,
    times_done_ms bigint,
    -- Which process works on it; another one takes over when it has not for a while.
    worker text NOT NULL,
    worked_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX correction_tenant ON correction (tenant_id, id);
CREATE INDEX correction_running ON correction (worked_at) WHERE state = 'running';

-- The series that a running correction selected when it began.
CREATE TABLE correction_series (
    correction_id bigint NOT NULL REFERENCES correction (id) ON DELETE CASCADE,
    series_id bigint NOT NULL,
    PRIMARY KEY (correction_id, series_id)
);
