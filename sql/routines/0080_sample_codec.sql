-- Pages of the sample codec in plain SQL (docs/adr/0014-sample-codec.md; the format is in
-- sql/samples/codec/page_kernels.py and column_kernels.py). These functions read no tables and trust their
-- input: whoever calls them learns nothing but what is in the bytes. The checksum is not verified.
--
-- Sets are made in the SELECT list, never in FROM: rows of a function in FROM are stored before they are
-- read, which takes three times as long as all the arithmetic.

-- Functions of earlier versions.
DROP FUNCTION IF EXISTS page_frame(bytea, integer, integer);
DROP FUNCTION IF EXISTS page_restored(integer, bigint, bigint, bigint, bigint[], integer);
DROP FUNCTION IF EXISTS page_values(bytea, integer, integer);

-- A number of up to 8 bytes, little endian, in two's complement; 0 for none.
CREATE OR REPLACE FUNCTION page_number(page bytea, at integer, n_bytes integer) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    number bigint := 0;
BEGIN
    FOR k IN REVERSE n_bytes - 1 .. 0 LOOP
        number := (number << 8) | get_byte(page, at + k);
    END LOOP;
    IF n_bytes BETWEEN 1 AND 7 AND number >= 1::bigint << (8 * n_bytes - 1) THEN
        number := number - (1::bigint << (8 * n_bytes));
    END IF;
    RETURN number;
END
$$;

-- The float8 that has these bits, for all but NaN: SQL cannot make other NaN than its own.
CREATE OR REPLACE FUNCTION float8_of_bits(bits bigint) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN bits < 0 THEN -1::float8 ELSE 1 END * CASE (bits >> 52) & 2047
    WHEN 2047 THEN
        CASE WHEN bits & 4503599627370495 = 0 THEN 'Infinity'::float8 ELSE 'NaN' END
    WHEN 0 THEN (bits & 4503599627370495)::float8 * '4.9406564584124654e-324'::float8
    ELSE ((bits & 4503599627370495) + 4503599627370496)::float8
        * power(2::float8, ((bits >> 52) & 2047) - 1075)
END;

-- The residuals of one frame, and the position behind it. `page` has 8 bytes more than the real page.
CREATE OR REPLACE FUNCTION page_residuals(
    page bytea, INOUT at integer, size integer, OUT residuals bigint[]
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    head integer := get_byte(page, at);
    first_bit integer := 8 * (at + 1);
    mask bigint;
    n_outliers integer;
    n_bytes integer;
    width integer := head & 127;
BEGIN
    mask := (1::bigint << least(width, 62)) - 1;
    IF width = 0 THEN
        residuals := array_fill(0::bigint, ARRAY[size]);
    ELSIF width <= 8 THEN
        residuals := ARRAY(
            SELECT ((get_byte(page, b / 8) + get_byte(page, b / 8 + 1) * 256) >> (b & 7)) & mask
            FROM (
                SELECT generate_series(first_bit, first_bit + width * (size - 1), width)
            ) AS s (b)
        );
    ELSIF width <= 16 THEN
        residuals := ARRAY(
            SELECT ((get_byte(page, b / 8) + get_byte(page, b / 8 + 1) * 256
                + get_byte(page, b / 8 + 2) * 65536) >> (b & 7)) & mask
            FROM (
                SELECT generate_series(first_bit, first_bit + width * (size - 1), width)
            ) AS s (b)
        );
    ELSE
        -- The highest bit of an 8-byte number is its sign, which >> repeats and the mask removes.
        residuals := ARRAY(
            SELECT CASE WHEN width = 64 THEN u.word ELSE (u.word >> (u.b & 7)) & mask END
            FROM (
                SELECT b,
                    (get_byte(page, b / 8) + get_byte(page, b / 8 + 1) * 256
                        + get_byte(page, b / 8 + 2) * 65536)
                    + get_byte(page, b / 8 + 3) * 16777216::bigint
                    + get_byte(page, b / 8 + 4) * 4294967296
                    + get_byte(page, b / 8 + 5) * 1099511627776
                    + get_byte(page, b / 8 + 6) * 281474976710656
                    + (get_byte(page, b / 8 + 7)::bigint << 56)
                FROM (
                    SELECT generate_series(first_bit, first_bit + width * (size - 1), width)
                ) AS s (b)
            ) AS u (b, word)
        );
    END IF;
    at := at + 1 + (size * width + 7) / 8;
    IF head & 128 <> 0 THEN
        n_outliers := get_byte(page, at);
        n_bytes := get_byte(page, at + 1);
        FOR k IN 0 .. n_outliers - 1 LOOP
            -- As unsigned: shorter than 8 bytes, the number is never negative.
            residuals[1 + get_byte(page, at + 2 + k)] := page_number(
                page, at + 2 + n_outliers + k * n_bytes, n_bytes
            ) & CASE WHEN n_bytes < 8 THEN (1::bigint << (8 * n_bytes)) - 1 ELSE -1 END;
        END LOOP;
        at := at + 2 + n_outliers * (1 + n_bytes);
    END IF;
END
$$;

-- The `n` numbers of a column of integers, and the position behind it.
CREATE OR REPLACE FUNCTION page_integers(
    page bytea, INOUT at integer, n integer, OUT numbers bigint[]
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    head integer := get_byte(page, at);
    base_bytes integer := head >> 4;
    step_bytes integer := get_byte(page, at + 1) & 15;
    scale_bytes integer := get_byte(page, at + 1) >> 4;
    base bigint := page_number(page, at + 2, base_bytes);
    step bigint := page_number(page, at + 2 + base_bytes, step_bytes);
    scale bigint := 1;
    frame record;
BEGIN
    IF scale_bytes > 0 THEN
        scale := page_number(page, at + 2 + base_bytes + step_bytes, scale_bytes);
    END IF;
    at := at + 2 + base_bytes + step_bytes + scale_bytes;
    IF head & 4 <> 0 THEN
        IF step = 0 THEN
            numbers := array_fill(base, ARRAY[n]);
        ELSE
            numbers := ARRAY(SELECT base + generate_series(0, n - 1) * step);
        END IF;
        RETURN;
    END IF;
    FOR done IN 0 .. n - 1 BY 128 LOOP
        SELECT * INTO frame FROM page_residuals(page, at, least(128, n - done));
        at := frame.at;
        numbers := numbers || frame.residuals;
    END LOOP;
    numbers := page_restored(head & 3, base, step, scale, numbers);
END
$$;

-- The numbers that residuals stand for. A loop that assigns to an array in place takes a tenth of the
-- time of a sum over a window. Writers see to it that the differences of numbers are below 2^61, and so are
-- the multiples of `step`. So a difference is added up before it is added to a number: a number with a part of
-- it might overflow.
CREATE OR REPLACE FUNCTION page_restored(
    transform integer, base bigint, step bigint, scale bigint, residuals bigint[]
) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    number bigint := base;
    rise bigint := step;
BEGIN
    IF transform = 0 THEN
        RETURN ARRAY(SELECT base + scale * unnest(residuals));
    END IF;
    -- Signed, and times the scale.
    residuals := ARRAY(
        SELECT scale * (((r >> 1) & 9223372036854775807) # -(r & 1))
        FROM (SELECT unnest(residuals)) AS u (r)
    );
    IF transform = 1 THEN
        FOR i IN 1 .. cardinality(residuals) LOOP
            residuals[i] := base + ((i - 1) * step + residuals[i]);
        END LOOP;
        RETURN residuals;
    END IF;
    -- The first number is the base, and its residual 0.
    residuals[1] := base;
    FOR i IN 2 .. cardinality(residuals) LOOP
        IF transform = 2 THEN
            number := number + (step + residuals[i]);
        ELSE
            rise := rise + residuals[i];
            number := number + rise;
        END IF;
        residuals[i] := number;
    END LOOP;
    RETURN residuals;
END
$$;

-- The `n` values of a column, the position behind it, and, where there are NaN, the bits of each of them.
CREATE OR REPLACE FUNCTION page_values(
    page bytea, INOUT at integer, n integer, OUT "values" float8[], OUT nan_bits bigint[]
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    head integer := get_byte(page, at);
    listed integer := at + 3;
    n_listed integer := 0;
    n_patterns integer;
    patterns bigint[];
    of_patterns float8[];
    numbers bigint[];
    bits bigint;
    place integer;
    power_of_ten float8;
BEGIN
    at := at + 1;
    IF head & 64 <> 0 THEN
        n_listed := page_number(page, at, 2) & 65535;
        at := at + 2 + 10 * n_listed;
    END IF;
    IF head = 128 THEN
        n_patterns := 1 + get_byte(page, at);
        patterns := ARRAY(
            SELECT page_number(page, at + 1 + 8 * k, 8) FROM generate_series(0, n_patterns - 1) AS k
        );
        at := at + 1 + 8 * n_patterns;
    END IF;
    SELECT r.at, r.numbers INTO at, numbers FROM page_integers(page, at, n) AS r;
    IF head = 128 THEN
        of_patterns := ARRAY(SELECT float8_of_bits(x) FROM (SELECT unnest(patterns)) AS u (x));
        "values" := ARRAY(SELECT of_patterns[1 + p] FROM (SELECT unnest(numbers)) AS u (p));
        IF 'NaN' = ANY(of_patterns) THEN
            nan_bits := ARRAY(
                SELECT CASE WHEN of_patterns[1 + p] = 'NaN' THEN patterns[1 + p] END
                FROM (SELECT unnest(numbers)) AS u (p)
            );
        END IF;
    ELSIF head & 32 <> 0 THEN
        numbers := ARRAY(
            SELECT x # ((x >> 63) & 9223372036854775807) FROM (SELECT unnest(numbers)) AS u (x)
        );
        "values" := ARRAY(SELECT float8_of_bits(x) FROM (SELECT unnest(numbers)) AS u (x));
        IF 'NaN' = ANY("values") THEN
            nan_bits := ARRAY(
                SELECT CASE WHEN v = 'NaN' THEN x END FROM unnest(numbers, "values") AS u (x, v)
            );
        END IF;
    ELSIF head & 31 = 0 THEN
        "values" := numbers;
    ELSE
        power_of_ten := ('1e' || (head & 31))::float8;
        "values" := ARRAY(SELECT unnest(numbers)::float8 / power_of_ten);
    END IF;
    FOR k IN 0 .. n_listed - 1 LOOP
        place := 1 + (page_number(page, listed + 2 * k, 2) & 65535);
        bits := page_number(page, listed + 2 * n_listed + 8 * k, 8);
        "values"[place] := float8_of_bits(bits);
        IF "values"[place] = 'NaN' THEN
            nan_bits := coalesce(nan_bits, array_fill(NULL::bigint, ARRAY[n]));
            nan_bits[place] := bits;
        END IF;
    END LOOP;
END
$$;

-- The ids of the series of a page.
CREATE OR REPLACE FUNCTION page_series(payload bytea) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    lengths integer := get_byte(payload, 5);
    n_bytes integer := 1 + ((lengths >> 2) & 3);
    at integer := 7 + (lengths & 3);
    page bytea;
    n_series bigint := 0;
BEGIN
    FOR k IN REVERSE n_bytes - 1 .. 0 LOOP
        n_series := (n_series << 8) | get_byte(payload, at + k);
    END LOOP;
    -- Most of the page is not needed.
    page := substr(payload, 1, 64 + 16 * n_series::integer) || '\x0000000000000000'::bytea;
    RETURN (page_integers(page, at + n_bytes + 1 + ((lengths >> 4) & 3), n_series::integer)).numbers;
END
$$;

-- The samples of a page: of the `wanted` series, whose ids ascend (all if NULL), with times from `first_ms` to
-- `last_ms`, Unix milliseconds. Values are exact. SQL has one NaN; `nan_bits` has the bits of each, and is NULL
-- for other values: 9218868437227405314 is the stale marker. Of a native histogram, which is in `histogram`, both
-- are NULL.
CREATE OR REPLACE FUNCTION decode_page(
    payload bytea,
    wanted bigint[] DEFAULT NULL,
    first_ms bigint DEFAULT -9223372036854775808,
    last_ms bigint DEFAULT 9223372036854775807
)
RETURNS TABLE (
    series_id bigint, unix_ms bigint, value float8, nan_bits bigint, histogram native_histogram
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    -- Reads the page from its place once; 8 bytes, as numbers are read by more bytes than they have.
    page bytea := payload || '\x0000000000000000'::bytea;
    lengths integer := get_byte(page, 5);
    n_samples integer := page_number(page, 6, (lengths & 3) + 2)
        & ((1::bigint << (8 * ((lengths & 3) + 1))) - 1);
    n_series integer;
    n_sections integer;
    at integer := 7 + (lengths & 3);
    ids bigint[];
    counts bigint[];
    section_series bigint[];
    section_bytes bigint[];
    times bigint[];
    times_at integer;
    times_of integer := -1;
    section_first integer := 1;
    behind integer;
    n integer;
    next_at integer;
    values_at integer;
    column_of_values record;
    row_ids bigint[];
    read record;
    -- Of a page with histograms: all of them, how many the sections before have, and which one a sample is.
    histograms native_histogram[];
    n_histograms integer := 0;
    numbers integer[];
BEGIN
    IF get_byte(page, 0) = 3 THEN
        -- Histograms stand behind everything else, and then their size.
        behind := length(payload) - 4 - page_number(page, length(payload) - 4, 5)::integer;
        histograms := section_histograms(substr(payload, behind + 1, length(payload) - 4 - behind));
    ELSIF get_byte(page, 0) NOT IN (1, 2) THEN
        RAISE EXCEPTION 'the page has the format %, which is not known', get_byte(page, 0)
            USING ERRCODE = 'data_corrupted';
    END IF;
    n_series := page_number(page, at, ((lengths >> 2) & 3) + 2)
        & ((1::bigint << (8 * (((lengths >> 2) & 3) + 1))) - 1);
    at := at + 1 + ((lengths >> 2) & 3);
    n_sections := page_number(page, at, ((lengths >> 4) & 3) + 2)
        & ((1::bigint << (8 * (((lengths >> 4) & 3) + 1))) - 1);
    at := at + 1 + ((lengths >> 4) & 3);
    IF NOT (1 <= n_sections AND n_sections <= n_series AND n_series <= n_samples
        AND n_samples <= 65536)
    THEN
        RAISE EXCEPTION 'the counts of the page contradict each other'
            USING ERRCODE = 'data_corrupted';
    END IF;
    SELECT * INTO read FROM page_integers(page, at, n_series);
    ids := read.numbers;
    IF wanted IS NOT NULL THEN
        ids := ids_among(ids, wanted);
        IF num_nonnulls(VARIADIC ids) = 0 THEN
            RETURN;
        END IF;
    END IF;
    SELECT * INTO read FROM page_counts(page, read.at, n_series, n_samples);
    counts := read.numbers;
    SELECT * INTO read FROM page_counts(page, read.at, n_sections, n_series);
    section_series := read.numbers;
    IF n_sections = 1 THEN
        section_bytes := ARRAY[0];
    ELSE
        SELECT * INTO read FROM page_integers(page, read.at, n_sections);
        section_bytes := read.numbers;
    END IF;
    next_at := read.at;
    FOR section IN 1 .. n_sections LOOP
        at := next_at;
        next_at := at + section_bytes[section];
        behind := section_first + section_series[section];
        IF get_byte(page, at) <> 255 THEN
            times_at := at;
        END IF;
        -- Which histogram a sample is depends on all before it.
        IF histograms IS NOT NULL OR num_nonnulls(VARIADIC ids[section_first:behind - 1]) > 0 THEN
            n := (SELECT sum(c) FROM unnest(counts[section_first:behind - 1]) AS c);
            IF times_of <> times_at THEN
                SELECT * INTO read FROM page_integers(page, times_at, n);
                times := read.numbers;
                times_of := times_at;
            END IF;
            IF first_ms <= last_ms AND (behind - section_first > 1 OR histograms IS NOT NULL
                OR times[1] <= last_ms AND times[n] >= first_ms)
            THEN
                values_at := CASE WHEN times_at = at THEN read.at ELSE at + 1 END;
                SELECT * INTO column_of_values FROM page_values(page, values_at, n);
                IF histograms IS NOT NULL OR behind - section_first > 1 THEN
                    row_ids := ARRAY(
                        SELECT s.id
                        FROM (
                            SELECT u.id, generate_series(1, u.c)
                            FROM (
                                SELECT unnest(ids[section_first:behind - 1]),
                                    unnest(counts[section_first:behind - 1])
                            ) AS u (id, c)
                        ) AS s
                    );
                END IF;
                IF histograms IS NOT NULL THEN
                    numbers := ARRAY(
                        SELECT CASE WHEN u.b = 9222606776761843712 THEN n_histograms
                            + count(*) FILTER (WHERE u.b = 9222606776761843712) OVER (ORDER BY u.place) END
                        FROM unnest(coalesce(column_of_values.nan_bits, array_fill(NULL::bigint, ARRAY[n])))
                            WITH ORDINALITY AS u (b, place)
                        ORDER BY u.place
                    );
                    n_histograms := coalesce((SELECT max(u.k) FROM unnest(numbers) AS u (k)), n_histograms);
                    RETURN QUERY
                    SELECT u.id, u.t, CASE WHEN u.k IS NULL THEN u.v END,
                        CASE WHEN u.k IS NULL THEN u.b END, histograms[u.k]
                    FROM (
                        SELECT unnest(row_ids), unnest(times), unnest(column_of_values.values),
                            unnest(column_of_values.nan_bits), unnest(numbers)
                    ) AS u (id, t, v, b, k)
                    WHERE u.t BETWEEN first_ms AND last_ms AND u.id IS NOT NULL;
                ELSIF behind - section_first > 1 THEN
                    RETURN QUERY
                    SELECT u.id, u.t, u.v, u.b, NULL::promcompat.native_histogram
                    FROM (
                        SELECT unnest(row_ids), unnest(times), unnest(column_of_values.values),
                            unnest(column_of_values.nan_bits)
                    ) AS u (id, t, v, b)
                    WHERE u.t BETWEEN first_ms AND last_ms AND u.id IS NOT NULL;
                ELSE
                    RETURN QUERY
                    SELECT ids[section_first], u.t, u.v, u.b, NULL::promcompat.native_histogram
                    FROM (
                        SELECT unnest(times), unnest(column_of_values.values),
                            unnest(column_of_values.nan_bits)
                    ) AS u (t, v, b)
                    WHERE u.t BETWEEN first_ms AND last_ms;
                END IF;
            END IF;
        END IF;
        section_first := behind;
    END LOOP;
END
$$;

-- The `ids` of series, with NULL in place of those that `wanted` does not have; both ascend. The fewer ones are
-- searched for in the others. PL/pgSQL copies an array of its own for whatever function reads it, but not the
-- result of a subquery.
CREATE OR REPLACE FUNCTION ids_among(ids bigint[], wanted bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    places integer[];
    found bigint[];
BEGIN
    IF cardinality(ids) <= cardinality(wanted) THEN
        places := ARRAY(
            SELECT width_bucket(u.id, (SELECT wanted[:])) FROM (SELECT unnest(ids)) AS u (id)
        );
        RETURN ARRAY(
            SELECT CASE WHEN wanted[u.place] = u.id THEN u.id END
            FROM (SELECT unnest(ids), unnest(places)) AS u (id, place)
        );
    END IF;
    places := ARRAY(
        SELECT width_bucket(w.id, (SELECT ids[:])) FROM (SELECT unnest(wanted)) AS w (id)
    );
    found := array_fill(NULL::bigint, ARRAY[cardinality(ids)]);
    FOR k IN 1 .. cardinality(places) LOOP
        IF ids[places[k]] = wanted[k] THEN
            found[places[k]] := wanted[k];
        END IF;
    END LOOP;
    RETURN found;
END
$$;

-- Counts that add up to a total; they are left out if there is only one way.
CREATE OR REPLACE FUNCTION page_counts(
    page bytea, INOUT at integer, n integer, total integer, OUT numbers bigint[]
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    IF n = 1 OR n = total THEN
        numbers := array_fill((total / n)::bigint, ARRAY[n]);
    ELSE
        SELECT r.at, r.numbers INTO at, numbers FROM page_integers(page, at, n) AS r;
    END IF;
END
$$;
