-- Time: Unix milliseconds to timestamptz, and time_bucket where TimescaleDB does not bring it.

-- Exact over the whole range of timestamptz, unlike to_timestamp(float8). Immutable all the way
-- down, so that the planner folds it into a constant and excludes chunks.
CREATE OR REPLACE FUNCTION from_unix_ms(unix_ms bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    timestamp '1970-01-01 00:00:00'
    + (unix_ms / 86400000) * interval '1 day'
    + (unix_ms % 86400000) * interval '1 millisecond'
) AT TIME ZONE 'UTC';

-- TimescaleDB's buckets start on Monday 2000-01-03; so do ours. Not STRICT: it must be inlined.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        CREATE OR REPLACE FUNCTION time_bucket(bucket_width interval, ts timestamptz)
        RETURNS timestamptz
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN date_bin(bucket_width, ts, timestamptz '2000-01-03 00:00:00+00');
    END IF;
END
$$;
