-- What notices changes of retentions (migration 0023).

-- Raises the generation of a tenant's series, by which services notice that another retention counts. Rows
-- that were left for a longer retention may have to be deleted now.
CREATE OR REPLACE FUNCTION note_retention(of_tenant integer) RETURNS void
LANGUAGE sql
AS $$
    DELETE FROM promcompat.row_retention WHERE tenant_id = of_tenant;
    INSERT INTO promcompat.series_generation AS g (tenant_id, slot, generation)
    VALUES (of_tenant, 0, promcompat.change_stamp())
    ON CONFLICT (tenant_id, slot)
    DO UPDATE SET generation = greatest(g.generation + 1, excluded.generation)
$$;
REVOKE EXECUTE ON FUNCTION note_retention(integer) FROM PUBLIC;

CREATE OR REPLACE FUNCTION note_retention_of_metric() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.retention_days IS NOT NULL THEN
            PERFORM promcompat.note_retention(OLD.tenant_id);
        END IF;
    ELSIF TG_OP = 'INSERT' THEN
        IF NEW.retention_days IS NOT NULL THEN
            PERFORM promcompat.note_retention(NEW.tenant_id);
        END IF;
    ELSIF NEW.retention_days IS DISTINCT FROM OLD.retention_days THEN
        PERFORM promcompat.note_retention(NEW.tenant_id);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION note_retention_of_tenant() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    IF NEW.retention_days IS DISTINCT FROM OLD.retention_days THEN
        PERFORM promcompat.note_retention(NEW.id);
    END IF;
    RETURN NULL;
END
$$;

-- Only once: CREATE TRIGGER locks out writers.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'note_retention_of_metric') THEN
        CREATE TRIGGER note_retention_of_metric
        AFTER INSERT OR UPDATE OR DELETE ON metric_definition
        FOR EACH ROW EXECUTE FUNCTION note_retention_of_metric();
        CREATE TRIGGER note_retention_of_tenant
        AFTER UPDATE OF retention_days ON tenant
        FOR EACH ROW EXECUTE FUNCTION note_retention_of_tenant();
    END IF;
END
$$;
