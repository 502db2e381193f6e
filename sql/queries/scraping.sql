-- hold_scrape_lock --
-- Whether this session has the lock of scraping, which it takes if nobody has it. The session takes
-- no other advisory lock.
SELECT CASE
    WHEN EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
    ) THEN true
    ELSE pg_try_advisory_lock(hashtextextended('promcompat.scrape', 0))
END

-- publish --
-- Stores a document in place of the one with its name.
INSERT INTO scrape_document (name, document)
VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET document = excluded.document, updated_at = now()

-- published --
-- The document with a name.
SELECT document FROM scrape_document WHERE name = $1
