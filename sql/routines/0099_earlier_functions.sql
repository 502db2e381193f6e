-- Functions that gave way to others in 0026_native_histograms.sql go, unless somebody's views still read them.
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'earlier_page_samples(bytea,bigint,bigint)',
        'earlier_decode_page(bytea,bigint[],bigint,bigint)',
        'earlier_stored_samples(integer,bigint[],bigint,bigint)'
    ] LOOP
        BEGIN
            EXECUTE format('DROP FUNCTION IF EXISTS promcompat.%s', signature);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            -- They go on to see numbers, as before.
        END;
    END LOOP;
END
$$;
