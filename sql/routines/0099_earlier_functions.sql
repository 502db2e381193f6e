-- Functions of earlier versions go, unless somebody's views still read them.
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'from_unix_us(bigint)',
        'earlier_page_samples(bytea,bigint,bigint)',
        'earlier_decode_page(bytea,bigint[],bigint,bigint)',
        'earlier_stored_samples(integer,bigint[],bigint,bigint)'
    ] LOOP
        BEGIN
            EXECUTE format('DROP FUNCTION IF EXISTS promcompat.%s', signature);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            -- These views go on to see what they saw.
        END;
    END LOOP;
END
$$;
