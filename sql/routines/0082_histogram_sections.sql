-- The histograms of pages of version 3 in plain SQL (docs/adr/0029-stored-histograms.md; the format is in
-- sql/samples/codec/histogram_sections.py). As in 0080_sample_codec.sql, the input is trusted.

-- `n` unsigned numbers in base 128, and the position behind them.
CREATE OR REPLACE FUNCTION page_varints(
    page bytea, INOUT at integer, n integer, OUT numbers bigint[]
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    number bigint;
    shift integer;
    digit integer;
BEGIN
    FOR k IN 1 .. n LOOP
        number := 0;
        shift := 0;
        LOOP
            digit := get_byte(page, at);
            at := at + 1;
            number := number | ((digit & 127)::bigint << shift);
            shift := shift + 7;
            EXIT WHEN digit < 128;
        END LOOP;
        numbers[k] := number;
    END LOOP;
END
$$;

-- A column of `n` integers, which is left out if there are none.
CREATE OR REPLACE FUNCTION section_integers(
    page bytea, INOUT at integer, n bigint, OUT numbers bigint[]
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    numbers := '{}';
    IF n > 0 THEN
        SELECT r.at, r.numbers INTO at, numbers FROM page_integers(page, at, n::integer) AS r;
    END IF;
END
$$;

-- A column of `n` float8, which is left out if there are none.
CREATE OR REPLACE FUNCTION section_values(
    page bytea, INOUT at integer, n bigint, OUT "values" float8[]
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    "values" := '{}';
    IF n > 0 THEN
        SELECT r.at, r.values INTO at, "values" FROM page_values(page, at, n::integer) AS r;
    END IF;
END
$$;

-- The indexes of the buckets of spans.
CREATE OR REPLACE FUNCTION span_indexes(offsets bigint[], lengths bigint[]) RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    indexes integer[] := '{}';
    index bigint := 0;
BEGIN
    FOR span IN 1 .. cardinality(offsets) LOOP
        index := index + offsets[span];
        indexes := indexes || ARRAY(SELECT generate_series(index, index + lengths[span] - 1)::integer);
        index := index + lengths[span];
    END LOOP;
    RETURN indexes;
END
$$;

-- The sums of the elements before each one, and of all.
CREATE OR REPLACE FUNCTION running_sums(numbers bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    sums bigint[] := '{0}';
BEGIN
    FOR k IN 1 .. cardinality(numbers) LOOP
        sums[k + 1] := sums[k] + numbers[k];
    END LOOP;
    RETURN sums;
END
$$;

-- The numbers of a field of a group in mode 0: the first one, and those that differences add up to.
CREATE OR REPLACE FUNCTION field_numbers(first bigint, step bigint, differences bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    numbers bigint[] := ARRAY[first];
BEGIN
    FOR k IN 1 .. cardinality(differences) LOOP
        numbers[k + 1] := numbers[k] + step
            + (((differences[k] >> 1) & 9223372036854775807) # -(differences[k] & 1));
    END LOOP;
    RETURN numbers;
END
$$;

-- The counts that have these bits, of float or of integer histograms.
CREATE OR REPLACE FUNCTION counts_of_bits(bits bigint[], is_float boolean) RETURNS float8[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT coalesce(array_agg(
        CASE WHEN is_float THEN float8_of_bits(b.bits) ELSE histogram_unsigned(b.bits) END
        ORDER BY b.place
    ), '{}')
    FROM unnest($1) WITH ORDINALITY AS b (bits, place)
$$;

-- The histograms of a section, in the order of their cells.
CREATE OR REPLACE FUNCTION section_histograms(section bytea) RETURNS native_histogram[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    -- Numbers are read by more bytes than they have.
    page bytea := section || '\x0000000000000000'::bytea;
    at integer := 0;
    head bigint[];
    n integer;
    n_families integer;
    n_layouts integer;
    n_groups integer;
    schemas bigint[];
    are_float bigint[];
    thresholds float8[];
    bounds_at bigint[];
    bounds float8[];
    families bigint[];
    n_positive bigint[];
    n_negative bigint[];
    spans_at bigint[];
    span_offsets bigint[];
    span_lengths bigint[];
    sizes bigint[];
    modes bigint[];
    layouts bigint[];
    hints bigint[];
    sums float8[];
    -- Of a layout: the indexes of its buckets, as texts, because elements of arrays of arrays have one size.
    positive_of text[];
    negative_of text[];
    keys_of text[];
    -- Of a group: where its histograms begin, its buckets, as texts, and how many.
    begins bigint[];
    keys_of_group text[];
    n_keys bigint[] := '{}';
    n_firsts bigint := 0;
    n_steps bigint := 0;
    n_differences bigint := 0;
    n_raw bigint := 0;
    excesses bigint[];
    firsts bigint[];
    steps bigint[];
    differences bigint[];
    raw bigint[];
    excess_at integer := 1;
    first_at integer := 1;
    step_at integer := 1;
    difference_at integer := 1;
    raw_at integer := 1;
    family integer;
    layout integer;
    m integer;
    fields integer;
    first_field integer;
    keys bigint[];
    places integer[];
    numbers bigint[];
    own bigint[];
    -- The numbers of a group, field by field.
    cells bigint[];
    positive integer[];
    negative integer[];
    counts float8[];
    zero_count float8;
    total float8;
    histograms native_histogram[] := '{}';
BEGIN
    SELECT r.at, r.numbers INTO at, head FROM page_varints(page, at, 9) AS r;
    n := head[1];
    n_families := head[2];
    n_layouts := head[3];
    n_groups := head[4];
    SELECT r.at, r.numbers INTO at, schemas FROM section_integers(page, at, n_families) AS r;
    SELECT r.at, r.numbers INTO at, are_float FROM section_integers(page, at, n_families) AS r;
    SELECT r.at, r.values INTO at, thresholds FROM section_values(page, at, n_families) AS r;
    SELECT r.at, running_sums(r.numbers) INTO at, bounds_at FROM section_integers(page, at, n_families) AS r;
    SELECT r.at, r.values INTO at, bounds FROM section_values(page, at, bounds_at[n_families + 1]) AS r;
    SELECT r.at, r.numbers INTO at, families FROM section_integers(page, at, n_layouts) AS r;
    SELECT r.at, r.numbers INTO at, n_positive FROM section_integers(page, at, n_layouts) AS r;
    SELECT r.at, r.numbers INTO at, n_negative FROM section_integers(page, at, n_layouts) AS r;
    spans_at := running_sums(ARRAY(SELECT unnest(n_positive) + unnest(n_negative)));
    SELECT r.at, r.numbers INTO at, span_offsets
    FROM section_integers(page, at, spans_at[n_layouts + 1]) AS r;
    SELECT r.at, r.numbers INTO at, span_lengths
    FROM section_integers(page, at, spans_at[n_layouts + 1]) AS r;
    SELECT r.at, r.numbers INTO at, sizes FROM page_counts(page, at, n_groups, n) AS r;
    SELECT r.at, r.numbers INTO at, modes FROM section_integers(page, at, n_groups) AS r;
    SELECT r.at, r.numbers INTO at, layouts FROM section_integers(page, at, n) AS r;
    SELECT r.at, r.numbers INTO at, hints FROM section_integers(page, at, n) AS r;
    SELECT r.at, r.values INTO at, sums FROM section_values(page, at, n) AS r;

    FOR l IN 1 .. n_layouts LOOP
        positive := span_indexes(
            span_offsets[spans_at[l] + 1:spans_at[l] + n_positive[l]],
            span_lengths[spans_at[l] + 1:spans_at[l] + n_positive[l]]
        );
        negative := span_indexes(
            span_offsets[spans_at[l] + n_positive[l] + 1:spans_at[l + 1]],
            span_lengths[spans_at[l] + n_positive[l] + 1:spans_at[l + 1]]
        );
        positive_of[l] := positive;
        negative_of[l] := negative;
        -- The negative ones come after all positive ones.
        keys_of[l] := positive::bigint[]
            || ARRAY(SELECT k + 1099511627776 FROM (SELECT unnest(negative)) AS u (k));
    END LOOP;
    begins := running_sums(sizes);
    FOR g IN 1 .. n_groups LOOP
        own := ARRAY(SELECT DISTINCT unnest(layouts[begins[g] + 1:begins[g + 1]]));
        IF cardinality(own) = 1 THEN
            keys := keys_of[own[1] + 1];
        ELSE
            keys := ARRAY(
                SELECT DISTINCT k.key
                FROM unnest(own) AS o (layout)
                CROSS JOIN LATERAL unnest(keys_of[o.layout + 1]::bigint[]) AS k (key)
                ORDER BY k.key
            );
        END IF;
        keys_of_group[g] := keys;
        n_keys[g] := cardinality(keys);
        IF modes[g] = 0 THEN
            n_firsts := n_firsts + n_keys[g] + 1;
            n_steps := n_steps + CASE WHEN sizes[g] >= 4 THEN n_keys[g] + 1 ELSE 0 END;
            n_differences := n_differences + (n_keys[g] + 1) * (sizes[g] - 1);
        ELSE
            n_raw := n_raw + (n_keys[g] + 2) * sizes[g];
        END IF;
    END LOOP;
    SELECT r.at, r.numbers INTO at, excesses
    FROM section_integers(
        page, at, (SELECT coalesce(sum(u.s), 0)::bigint FROM unnest(sizes, modes) AS u (s, m) WHERE u.m = 0)
    ) AS r;
    SELECT r.at, r.numbers INTO at, firsts FROM section_integers(page, at, n_firsts) AS r;
    SELECT r.at, r.numbers INTO at, steps FROM section_integers(page, at, n_steps) AS r;
    SELECT r.at, r.numbers INTO at, differences FROM section_integers(page, at, n_differences) AS r;
    SELECT r.at, r.numbers INTO at, raw FROM section_integers(page, at, n_raw) AS r;

    FOR g IN 1 .. n_groups LOOP
        m := sizes[g];
        keys := keys_of_group[g];
        IF modes[g] = 0 THEN
            cells := '{}';
            first_field := 1;
            fields := n_keys[g] + 1;
            FOR f IN 1 .. fields LOOP
                cells := cells || field_numbers(
                    firsts[first_at], CASE WHEN m >= 4 THEN steps[step_at] ELSE 0 END,
                    differences[difference_at:difference_at + m - 2]
                );
                first_at := first_at + 1;
                step_at := step_at + CASE WHEN m >= 4 THEN 1 ELSE 0 END;
                difference_at := difference_at + m - 1;
            END LOOP;
        ELSE
            fields := n_keys[g] + 2;
            first_field := 2;
            cells := raw[raw_at:raw_at + fields * m - 1];
            raw_at := raw_at + fields * m;
        END IF;
        FOR k IN 1 .. m LOOP
            layout := layouts[begins[g] + k] + 1;
            family := families[layout] + 1;
            positive := positive_of[layout];
            negative := negative_of[layout];
            -- The numbers of its own buckets, in their order.
            own := ARRAY(
                SELECT cells[(first_field + array_position(keys, o.key) - 1) * m + k]
                FROM unnest(keys_of[layout]::bigint[]) WITH ORDINALITY AS o (key, place)
                ORDER BY o.place
            );
            IF modes[g] = 0 THEN
                counts := own::float8[];
                zero_count := cells[k];
                total := cells[k] + (SELECT coalesce(sum(o), 0) FROM unnest(own) AS o) + excesses[excess_at];
                excess_at := excess_at + 1;
            ELSE
                counts := counts_of_bits(own, are_float[family] = 1);
                total := (counts_of_bits(ARRAY[cells[k]], are_float[family] = 1))[1];
                zero_count := (counts_of_bits(ARRAY[cells[m + k]], are_float[family] = 1))[1];
            END IF;
            histograms := histograms || ROW(
                total, sums[begins[g] + k], schemas[family], thresholds[family], zero_count,
                positive, counts[1:cardinality(positive)], negative,
                counts[cardinality(positive) + 1:],
                bounds[bounds_at[family] + 1:bounds_at[family + 1]],
                (ARRAY['unknown', 'reset', 'not_reset', 'gauge'])[1 + hints[begins[g] + k]]
            )::native_histogram;
        END LOOP;
    END LOOP;
    RETURN histograms;
END
$$;
