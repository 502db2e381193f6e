-- How far `promcompat migrate-store` has moved the rows of a chunk or partition of `sample`: the position
-- behind which the next rows are, and how many were moved. A row goes with its chunk.
CREATE TABLE store_move (
    chunk oid PRIMARY KEY,
    series_id bigint NOT NULL,
    ts timestamptz NOT NULL,
    n_rows bigint NOT NULL
);
