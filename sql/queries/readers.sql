-- tenant_readers --
-- Every tenant, and the roles that it is granted to.
SELECT t.name, coalesce(array_agg(r.role_name::text ORDER BY r.role_name) FILTER (
    WHERE r.role_name IS NOT NULL
), '{}') AS roles
FROM tenant AS t
LEFT JOIN tenant_reader AS r ON r.tenant_id = t.id
GROUP BY t.name
ORDER BY t.name

-- grant_tenant --
-- Lets role $1 read tenant $2.
SELECT grant_tenant_reader($1::name, $2)

-- revoke_tenant --
-- Takes tenant $2 back from role $1; whether the role had it.
SELECT revoke_tenant_reader($1::name, $2)

-- create_reader --
-- Makes role $1, which may connect with the password that $2 is the verifier of.
SELECT create_reader_role($1::name, $2)

-- refresh_metric_views --
-- Brings the views of single metrics up to date; how many changed.
SELECT refresh_metric_views()
