-- The steps of corrections that read samples and append what becomes of them.

-- Whether an arrival after `read_through` and before `before_id` concerns samples of a tenant's series, which
-- ascend, and times: it has samples of them, or is a deletion that may. If drains have moved arrivals
-- after `read_through` it may.
CREATE OR REPLACE FUNCTION has_change_between(
    read_through bigint,
    before_id bigint,
    of_tenant integer,
    of_series bigint[],
    from_ms bigint,
    to_ms bigint
) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM promcompat.drain_state AS s WHERE s.drained_through > read_through)
        OR EXISTS (
            SELECT FROM promcompat.arrival AS a
            WHERE a.id > read_through AND a.id < before_id AND a.tenant_id = of_tenant
                AND a.first_series <= of_series[cardinality(of_series)]
                AND a.last_series >= of_series[1]
                AND a.first_ms <= to_ms AND a.last_ms >= from_ms
                AND (
                    a.kind = 3
                    OR EXISTS (
                        SELECT FROM promcompat.decode_page(a.payload, of_series, from_ms, to_ms)
                    )
                )
        );
END
$$;

-- Does step `known_step` of a correction: appends its arrivals, and records where the next step begins, in
-- one transaction. So a step is done once, whoever tries it and whenever a process is killed. Returns the
-- ids of the arrivals, or NULL if somebody else did the step. The first parameters are those of
-- append_arrivals, which locks the order of arrivals. Refused with PC003 when samples of the series
-- and times that the step has read, up to the arrival `read_through`, may have changed since.
CREATE OR REPLACE FUNCTION append_correction_step(
    known_epoch text,
    known_tenants integer[],
    known_definitions bigint[],
    times_read_through bigint,
    tenant_ids integer[],
    kinds smallint[],
    n_samples integer[],
    first_series bigint[],
    last_series bigint[],
    first_ms bigint[],
    last_ms bigint[],
    payloads bytea[],
    breach_series bigint[],
    breach_levels smallint[],
    breach_values float8[],
    breach_ms bigint[],
    correction_id bigint,
    known_step bigint,
    new_series_done bigint,
    new_chunk_through bigint,
    new_times_done_ms bigint,
    more_series integer,
    more_samples bigint,
    read_through bigint,
    read_series bigint[],
    read_from_ms bigint,
    read_to_ms bigint
) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    of_tenant integer;
    new_ids bigint[];
BEGIN
    UPDATE promcompat.correction AS c
    SET
        step = c.step + 1,
        series_done = new_series_done,
        chunk_through = new_chunk_through,
        times_done_ms = new_times_done_ms,
        n_series_done = c.n_series_done + more_series,
        n_samples = c.n_samples + more_samples,
        worked_at = clock_timestamp()
    WHERE c.id = correction_id AND c.step = known_step AND c.state = 'running'
    RETURNING c.tenant_id INTO of_tenant;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF cardinality(tenant_ids) = 0 THEN
        RETURN '{}';
    END IF;
    new_ids := promcompat.append_arrivals(
        known_epoch, known_tenants, known_definitions, times_read_through, tenant_ids, kinds,
        n_samples, first_series, last_series, first_ms, last_ms, payloads, breach_series,
        breach_levels, breach_values, breach_ms
    );
    IF promcompat.has_change_between(
        read_through, new_ids[1], of_tenant, read_series, read_from_ms, read_to_ms
    ) THEN
        RAISE EXCEPTION 'samples of these series and times arrived meanwhile'
            USING ERRCODE = 'PC003';
    END IF;
    RETURN new_ids;
END
$$;

-- Has the thresholds of metrics compared with the newest samples again, as after a change of a threshold.
CREATE OR REPLACE FUNCTION review_thresholds(of_tenant integer, metric_names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    INSERT INTO promcompat.threshold_review (tenant_id, metric_name)
    SELECT d.tenant_id, d.name
    FROM promcompat.metric_definition AS d
    WHERE d.tenant_id = of_tenant AND d.name = ANY (metric_names) AND d.alert_threshold IS NOT NULL
    ORDER BY d.name
    ON CONFLICT (tenant_id, metric_name) DO UPDATE SET
        after_series_id = 0, is_repeated = false, due_at = now();
END
$$;

REVOKE EXECUTE ON FUNCTION has_change_between(
    bigint, bigint, integer, bigint[], bigint, bigint
) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION append_correction_step(
    text, integer[], bigint[], bigint, integer[], smallint[], integer[], bigint[], bigint[], bigint[],
    bigint[], bytea[], bigint[], smallint[], float8[], bigint[],
    bigint, bigint, bigint, bigint, bigint, integer, bigint, bigint, bigint[], bigint, bigint
) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION review_thresholds(integer, text[]) FROM PUBLIC;

-- The record of corrections, for SQL users: those of the tenants that they may read.
CREATE OR REPLACE VIEW corrections WITH (security_barrier) AS
SELECT
    c.id, c.tenant_id, c.kind, c.selectors,
    from_unix_ms(c.first_ms) AS start_time, from_unix_ms(c.last_ms + 1) AS end_time,
    c.factor, c.addend, c.labels, c.requested_by, c.reason, c.requested_at, c.state, c.failure,
    c.finished_at, c.n_series, c.n_series_done, c.n_samples, c.is_counted
FROM correction AS c
WHERE c.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)));
