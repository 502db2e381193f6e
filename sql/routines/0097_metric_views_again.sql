-- Makes the views of metrics again, with their functions, as the routines before this one say: those of an
-- earlier version may be different.
DO $$
DECLARE
    made name;
BEGIN
    FOR made IN SELECT v.view_name FROM promcompat.metric_view AS v ORDER BY v.view_name LOOP
        BEGIN
            PERFORM promcompat.make_metric_view(made);
        EXCEPTION WHEN invalid_table_definition THEN
            RAISE WARNING 'the view % stays as it is, for somebody has changed its columns', made;
        END;
    END LOOP;
END
$$;
