-- Calls a function of one jsonb by its name, with the rights of the caller. Which names may be
-- called is decided by the service; the name is looked up here, never executed as text.
CREATE OR REPLACE FUNCTION call_remediation_function(function_name text, argument jsonb)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    wanted regprocedure := to_regprocedure(function_name || '(jsonb)');
    answer text;
BEGIN
    IF wanted IS NULL THEN
        RAISE undefined_function USING MESSAGE = format('no function %s(jsonb)', function_name);
    END IF;
    EXECUTE format('SELECT (%s($1))::text', wanted::oid::regproc) INTO answer USING argument;
    RETURN answer;
END
$$;
