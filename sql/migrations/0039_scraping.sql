-- What the process that scrapes tells the others about its targets. Not logged: it is written anew
-- within seconds, and a server that recovers from a crash may forget it.
CREATE UNLOGGED TABLE scrape_document (
    name text PRIMARY KEY,
    document bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
