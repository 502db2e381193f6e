-- Native histograms as SQL sees them: of the bytes of a row, and the functions that people ask.

-- Functions of earlier versions give way: views that read them, among them those that people made, go on to
-- read these until they are made again. What left out stale markers leaves out histograms, too.
DO $$
DECLARE
    signature text;
BEGIN
    IF to_regprocedure('promcompat.is_stale_marker(float8)') IS NOT NULL
        AND to_regprocedure('promcompat.has_no_number(float8)') IS NULL
    THEN
        ALTER FUNCTION is_stale_marker(float8) RENAME TO has_no_number;
    END IF;
    FOREACH signature IN ARRAY ARRAY[
        'page_samples(bytea,bigint,bigint)', 'decode_page(bytea,bigint[],bigint,bigint)',
        'stored_samples(integer,bigint[],bigint,bigint)'
    ] LOOP
        IF EXISTS (
            SELECT FROM pg_proc AS p
            WHERE p.oid = to_regprocedure('promcompat.' || signature)
                AND NOT 'histogram' = ANY (p.proargnames)
        ) THEN
            EXECUTE format(
                'ALTER FUNCTION %s RENAME TO %I', signature,
                'earlier_' || split_part(signature, '(', 1)
            );
        END IF;
    END LOOP;
END
$$;

-- Whether a value stands for a histogram, which is beside it.
CREATE OR REPLACE FUNCTION is_histogram(value float8) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value = 'NaN'::float8 AND float8send(value) = '\x7ffd480000000000'::bytea;

-- Whether a value is no number that was measured: a stale marker, or what stands for a histogram.
CREATE OR REPLACE FUNCTION has_no_number(value float8) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value = 'NaN'::float8
    AND float8send(value) IN ('\x7ff0000000000002'::bytea, '\x7ffd480000000000'::bytea);

-- The numbers of a row of sql/samples/codec/histogram_rows.py: base 128, the lowest 7 bits first.
CREATE OR REPLACE FUNCTION histogram_numbers(encoded bytea) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    numbers bigint[] := '{}';
    number bigint := 0;
    shift integer := 0;
    digit integer;
BEGIN
    FOR place IN 0 .. length(encoded) - 1 LOOP
        digit := get_byte(encoded, place);
        number := number | ((digit & 127)::bigint << shift);
        IF digit < 128 THEN
            numbers := numbers || number;
            number := 0;
            shift := 0;
        ELSE
            shift := shift + 7;
        END IF;
    END LOOP;
    RETURN numbers;
END
$$;

-- The float8 with the bits of a number whose bytes are reversed.
CREATE OR REPLACE FUNCTION histogram_float(number bigint) RETURNS float8
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN promcompat.float8_of_bits(promcompat.page_number(int8send(number), 0, 8));
END
$$;

-- A count of an integer histogram, whose 64 bits are no sign.
CREATE OR REPLACE FUNCTION histogram_unsigned(number bigint) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN number >= 0 THEN number::float8 ELSE (number + 18446744073709551616)::float8 END;

CREATE OR REPLACE FUNCTION histogram_signed(number bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ((number >> 1) & 9223372036854775807) # -(number & 1);

-- The indexes of the buckets of spans, of which there are `n`, from element `at` on: offset and length of each.
CREATE OR REPLACE FUNCTION histogram_indexes(numbers bigint[], at integer, n integer) RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    indexes integer[] := '{}';
    index bigint := 0;
BEGIN
    FOR span IN 0 .. n - 1 LOOP
        index := index + promcompat.histogram_signed(numbers[at + 2 * span]);
        FOR place IN 1 .. numbers[at + 2 * span + 1] LOOP
            indexes := indexes || index::integer;
            index := index + 1;
        END LOOP;
    END LOOP;
    RETURN indexes;
END
$$;

-- The counts of `n` buckets from element `at` on.
CREATE OR REPLACE FUNCTION histogram_bucket_counts(
    numbers bigint[], at integer, n integer, is_float boolean
) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    counts float8[] := '{}';
    count numeric := 0;
BEGIN
    FOR place IN at .. at + n - 1 LOOP
        IF is_float THEN
            counts := counts || promcompat.histogram_float(numbers[place]);
        ELSE
            -- Differences are modulo 2^64.
            count := mod(
                count + promcompat.histogram_signed(numbers[place]) + 18446744073709551616, 18446744073709551616
            );
            counts := counts || count::float8;
        END IF;
    END LOOP;
    RETURN counts;
END
$$;

-- The histogram of the bytes of a row.
CREATE OR REPLACE FUNCTION histogram_of_row(encoded bytea) RETURNS native_histogram
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    numbers bigint[] := histogram_numbers(encoded);
    is_float boolean := numbers[2] >= 4;
    spans_at integer := 13;
    negative_spans_at integer := spans_at + 2 * numbers[8];
    positive_at integer := negative_spans_at + 2 * numbers[9];
    negative_at integer := positive_at + numbers[10];
    bounds_at integer := negative_at + numbers[11];
BEGIN
    IF numbers[1] <> 1 OR cardinality(numbers) IS DISTINCT FROM bounds_at + numbers[12] - 1 THEN
        RAISE EXCEPTION 'the bytes are not those of a histogram' USING ERRCODE = 'data_corrupted';
    END IF;
    RETURN ROW(
        CASE WHEN is_float THEN histogram_float(numbers[6]) ELSE histogram_unsigned(numbers[6]) END,
        histogram_float(numbers[7]),
        histogram_signed(numbers[3])::integer,
        histogram_float(numbers[4]),
        CASE WHEN is_float THEN histogram_float(numbers[5]) ELSE histogram_unsigned(numbers[5]) END,
        histogram_indexes(numbers, spans_at, numbers[8]::integer),
        histogram_bucket_counts(numbers, positive_at, numbers[10]::integer, is_float),
        histogram_indexes(numbers, negative_spans_at, numbers[9]::integer),
        histogram_bucket_counts(numbers, negative_at, numbers[11]::integer, is_float),
        ARRAY(
            SELECT histogram_float(n.number)
            FROM unnest(numbers[bounds_at:]) WITH ORDINALITY AS n (number, place)
            ORDER BY n.place
        ),
        (ARRAY['unknown', 'reset', 'not_reset', 'gauge'])[1 + (numbers[2] & 3)]
    )::native_histogram;
END
$$;

-- Where bucket `index` of an exponential schema ends, as Prometheus has it: the last finite bound is the
-- largest float8, and infinity comes after it. The literals are 2^(k / 256) with the bits that
-- Prometheus has, not all of which are those of the nearest float8 (promcompat/core/bucket_bounds_kernels.py).
CREATE OR REPLACE FUNCTION histogram_bound(schema integer, index integer) RETURNS float8
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    powers CONSTANT float8[] := ARRAY[
        1.0, 1.0027112750502025, 1.0054299011128027, 1.0081558981184175, 1.0108892860517005,
        1.0136300849514894, 1.0163783149109529, 1.019133996077738, 1.0218971486541166, 1.0246677928971357,
        1.0274459491187635, 1.030231637686041, 1.0330248790212284, 1.0358256936019572, 1.0386341019613787,
        1.041450124688316, 1.0442737824274138, 1.0471050958792898, 1.049944085800687, 1.052790773004626,
        1.0556451783605572, 1.0585073227945128, 1.0613772272892619, 1.0642549128844643, 1.0671404006768235,
        1.0700337118202417, 1.0729348675259753, 1.0758438890627908, 1.0787607977571196, 1.081685614993215,
        1.084618362213309, 1.0875590609177694, 1.0905077326652577, 1.0934643990728858, 1.0964290818163767,
        1.099401802630222, 1.102382583307841, 1.1053714457017412, 1.1083684117236785, 1.1113735033448175,
        1.1143867425958924, 1.117408151567369, 1.1204377524096065, 1.1234755673330197, 1.1265216186082418,
        1.129575928566288, 1.132638519598719, 1.1357094141578052, 1.1387886347566916, 1.1418762039695616,
        1.144972144431804, 1.1480764788401787, 1.1511892299529827, 1.1543104205902162, 1.157440073633751,
        1.1605782120274986, 1.1637248587775775, 1.1668800369524817, 1.17004376968325, 1.173216080163637,
        1.1763969916502812, 1.1795865274628758, 1.1827847109843408, 1.1859915656609936, 1.189207115002721,
        1.1924313825831512, 1.1956643920398273, 1.1989061670743806, 1.202156731452703, 1.2054161090051239,
        1.2086843236265814, 1.211961399276801, 1.2152473599804687, 1.2185422298274082, 1.2218460329727572,
        1.225158793637145, 1.2284805361068698, 1.2318112847340759, 1.235151063936933, 1.2384998981998163,
        1.241857812073484, 1.245224830175258, 1.2486009771892046, 1.2519862778663162, 1.255380757024691,
        1.2587844395497165, 1.2621973503942505, 1.2656195145788063, 1.2690509571917332, 1.2724917033894028,
        1.275941778396392, 1.279401207505669, 1.2828700160787783, 1.2863482295460256, 1.2898358734066657,
        1.2933329732290895, 1.2968395546510096, 1.3003556433796506, 1.3038812651919358, 1.307416445934677,
        1.3109612115247644, 1.3145155879493549, 1.318079601266064, 1.3216532776031575, 1.325236643159741,
        1.3288297242059544, 1.332432547083161, 1.3360451382041454, 1.339667524053303, 1.3432997311868353,
        1.3469417862329456, 1.3505937158920343, 1.3542555469368927, 1.357927306212901, 1.3616090206382245,
        1.3653007172040117, 1.3690024229745905, 1.3727141650876684, 1.37643597075453, 1.380167867260238,
        1.3839098819638318, 1.387662042298529, 1.3914243757719258, 1.3951969099661998, 1.398979672538311,
        1.4027726912202045, 1.4065759938190152, 1.4103896082172704, 1.414213562373095, 1.4180478843204152,
        1.4218926021691654, 1.4257477441054942, 1.4296133383919698, 1.4334894133677887, 1.437375997448982,
        1.4412731191286252, 1.4451808069770464, 1.4490990896420348, 1.4530279958490522, 1.4569675544014435,
        1.4609177941806468, 1.4648787441464057, 1.4688504333369816, 1.4728328908693673, 1.4768261459394991,
        1.4808302278224716, 1.4848451658727522, 1.4888709895243968, 1.4929077282912646, 1.4969554117672352,
        1.5010140696264251, 1.5050837316234063, 1.5091644275934224, 1.5132561874526096, 1.5173590411982143,
        1.5214730189088141, 1.525598150744538, 1.5297344669472868, 1.5338819978409555, 1.5380407738316564,
        1.5422108254079407, 1.5463921831410214, 1.5505848776849998, 1.5547889397770884, 1.559004400237837,
        1.5632312899713576, 1.5674696399655528, 1.5717194812923414, 1.5759808451078863, 1.5802537626528244,
        1.5845382652524933, 1.5888343843171635, 1.5931421513422668, 1.597461597908627, 1.601792755682693,
        1.6061356564167706, 1.610490331949254, 1.6148568142048605, 1.6192351351948633, 1.6236253270173284,
        1.6280274218573476, 1.632441451987275, 1.6368674497669642, 1.641305447644006, 1.6457554781539645,
        1.6502175739206175, 1.6546917676561939, 1.6591780921616157, 1.6636765803267362, 1.6681872651305822,
        1.6727101796415962, 1.6772453570178782, 1.6817928305074288, 1.6863526334483931, 1.6909247992693046,
        1.6955093614893322, 1.7001063537185233, 1.704715809658051, 1.7093377631004625, 1.7139722479299258,
        1.7186192981224775, 1.7232789477462735, 1.727951230961837, 1.7326361820223106, 1.7373338352737058,
        1.742044225155156, 1.7467673861991684, 1.7515033530318778, 1.756252160373299, 1.7610138430375835,
        1.7657884359332723, 1.7705759740635543, 1.7753764925265207, 1.780190026515424, 1.7850166113189343,
        1.7898562823214004, 1.7947090750031065, 1.7995750249405345, 1.804454167806623, 1.809346539371031,
        1.8142521755003982, 1.819171112158608, 1.8241033854070525, 1.8290490314048966, 1.8340080864093422,
        1.8389805867758935, 1.8439665689586255, 1.8489660695104506, 1.8539791250833852, 1.85900577242882,
        1.8640460483977885, 1.8690999899412382, 1.8741676341102995, 1.87924901805656, 1.8843441790323339,
        1.8894531543909385, 1.8945759815869654, 1.899712698176555, 1.9048633418176737, 1.9100279502703894,
        1.915206561397147, 1.9203992131630472, 1.9256059436361244, 1.9308267909876267, 1.9360617934922941,
        1.9413109895286402, 1.9465744175792328, 1.9518521162309779, 1.9571441241753997, 1.9624504802089269,
        1.967771223233175, 1.9731063922552337, 1.9784560263879505, 1.983820164850219, 1.9891988469672657,
        1.9945921121709396
    ];
    exponent bigint := CASE WHEN schema < 0 THEN index::bigint << -schema ELSE index >> schema END;
    mantissa float8 := CASE WHEN schema < 0 THEN 1
        ELSE powers[1 + ((index & ((1 << schema) - 1)) << (8 - schema))] END;
BEGIN
    IF exponent >= 1024 THEN
        RETURN CASE WHEN exponent = 1024 AND mantissa = 1 THEN 1.7976931348623157e308::float8
            ELSE 'Infinity'::float8 END;
    ELSIF exponent < -1074 THEN
        RETURN 0;
    END IF;
    -- No power is too small by itself.
    RETURN mantissa * power(2::float8, greatest(exponent, -1022)) * power(2::float8, least(exponent + 1022, 0));
END
$$;

CREATE OR REPLACE FUNCTION histogram_count(h native_histogram) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (h).count;

CREATE OR REPLACE FUNCTION histogram_sum(h native_histogram) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (h).sum;

CREATE OR REPLACE FUNCTION histogram_schema(h native_histogram) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (h).schema;

-- The buckets that have observations, ascending: the negative ones, the zero bucket, the positive ones. Where the
-- zero bucket reaches into another one, that ends at the zero bucket.
CREATE OR REPLACE FUNCTION histogram_buckets(h native_histogram)
RETURNS TABLE (
    lower float8, upper float8, count float8, lower_inclusive boolean, upper_inclusive boolean
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    FOR place IN REVERSE cardinality((h).negative_indexes) .. 1 LOOP
        CONTINUE WHEN (h).negative_counts[place] = 0;
        lower := -histogram_bound((h).schema, (h).negative_indexes[place]);
        upper := least(
            -histogram_bound((h).schema, (h).negative_indexes[place] - 1), -(h).zero_threshold
        );
        count := (h).negative_counts[place];
        lower_inclusive := true;
        upper_inclusive := false;
        RETURN NEXT;
    END LOOP;
    IF (h).zero_count > 0 THEN
        lower := -(h).zero_threshold;
        upper := (h).zero_threshold;
        count := (h).zero_count;
        lower_inclusive := true;
        upper_inclusive := true;
        RETURN NEXT;
    END IF;
    FOR place IN 1 .. cardinality((h).positive_indexes) LOOP
        CONTINUE WHEN (h).positive_counts[place] = 0;
        count := (h).positive_counts[place];
        IF (h).schema = -53 THEN
            lower := coalesce((h).custom_bounds[(h).positive_indexes[place]], '-Infinity');
            upper := coalesce((h).custom_bounds[(h).positive_indexes[place] + 1], 'Infinity');
            lower_inclusive := (h).positive_indexes[place] = 0;
        ELSE
            lower := greatest(
                histogram_bound((h).schema, (h).positive_indexes[place] - 1), (h).zero_threshold
            );
            upper := histogram_bound((h).schema, (h).positive_indexes[place]);
            lower_inclusive := false;
        END IF;
        upper_inclusive := true;
        RETURN NEXT;
    END LOOP;
END
$$;

-- The quantile `q` of the observations, estimated as histogram_quantile() of PromQL does.
CREATE OR REPLACE FUNCTION histogram_quantile(q float8, h native_histogram) RETURNS float8
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    from_below boolean := q < 0.5 OR (h).sum = 'NaN';
    rank float8 := CASE WHEN from_below THEN q ELSE 1 - q END * (h).count;
    counted float8 := 0;
    bucket record;
    last_bucket record;
BEGIN
    IF q = 'NaN' OR (h).count = 0 AND q BETWEEN 0 AND 1 THEN
        RETURN 'NaN';
    ELSIF q < 0 OR q > 1 THEN
        RETURN CASE WHEN q < 0 THEN '-Infinity'::float8 ELSE 'Infinity'::float8 END;
    END IF;
    FOR bucket IN
        SELECT b.lower, b.upper, b.count
        FROM histogram_buckets(h) AS b
        ORDER BY CASE WHEN from_below THEN b.upper ELSE -b.upper END,
            CASE WHEN from_below THEN b.lower ELSE -b.lower END
    LOOP
        counted := counted + bucket.count;
        EXIT WHEN counted >= rank;
    END LOOP;
    IF bucket IS NULL THEN
        -- No bucket has observations: they are all NaN, or the count contradicts the buckets.
        RETURN CASE WHEN (h).sum = 'NaN' THEN 'NaN'::float8 ELSE 0 END;
    END IF;
    IF (h).schema = -53 THEN
        IF bucket.lower = '-Infinity' THEN
            IF bucket.upper <= 0 THEN
                RETURN bucket.upper;
            END IF;
            bucket.lower := 0;
        ELSIF bucket.upper = 'Infinity' THEN
            RETURN bucket.lower;
        END IF;
    ELSIF bucket.lower < 0 AND bucket.upper > 0 THEN
        IF cardinality((h).negative_counts) = 0 AND cardinality((h).positive_counts) > 0 THEN
            bucket.lower := 0;
        ELSIF cardinality((h).positive_counts) = 0 AND cardinality((h).negative_counts) > 0 THEN
            bucket.upper := 0;
        END IF;
    END IF;
    counted := least(counted, (h).count);
    IF counted < rank THEN
        RETURN CASE WHEN (h).sum = 'NaN' THEN 'NaN'::float8 ELSE bucket.upper END;
    END IF;
    rank := CASE WHEN from_below THEN rank - (counted - bucket.count) ELSE counted - rank END;
    IF (h).sum = 'NaN' THEN
        -- PromQL computes on with the last bucket then.
        SELECT b.lower, b.upper, b.count INTO last_bucket
        FROM histogram_buckets(h) AS b
        ORDER BY b.upper DESC, b.lower DESC
        LIMIT 1;
        IF last_bucket.upper > bucket.upper THEN
            bucket := last_bucket;
        END IF;
    END IF;
    rank := rank / bucket.count;
    IF (h).schema = -53 OR bucket.lower <= 0 AND bucket.upper >= 0 THEN
        RETURN bucket.lower + (bucket.upper - bucket.lower) * rank;
    ELSIF bucket.lower > 0 THEN
        RETURN exp(ln(bucket.lower) + (ln(bucket.upper) - ln(bucket.lower)) * rank);
    END IF;
    RETURN -exp(ln(-bucket.upper) + (ln(-bucket.lower) - ln(-bucket.upper)) * (1 - rank));
END
$$;
