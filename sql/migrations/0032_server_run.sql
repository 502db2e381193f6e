-- What changes when the server recovers from a crash of one of its processes: the postmaster, whose
-- start is part of the epoch, survives such a crash, but commits that were not on disk are lost.
-- Recovery empties an unlogged table. Sessions that write fill it again (begin_server_run).
CREATE UNLOGGED TABLE server_run (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    id uuid NOT NULL DEFAULT gen_random_uuid()
);
