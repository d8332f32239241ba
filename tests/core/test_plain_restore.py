"""Of a plain dump only what is about its own database is run: the server may hold others of the user's."""

import pytest

from replcheck.postgres.plain_restore import reaches_beyond


@pytest.mark.parametrize(
    "statement",
    [
        b"ALTER ROLE app IN DATABASE clinic SET search_path TO 'clinic';",
        b"ALTER ROLE ALL IN DATABASE clinic RESET ALL;",
        b"ALTER USER \"odd one\" SET work_mem TO '1GB';",
        b"CREATE ROLE app;",
        b"DROP ROLE IF EXISTS app;",
        b"DROP USER app;",
        b"CREATE GROUP staff;",
        b"ALTER DATABASE clinic SET work_mem TO '1GB';",
        b"ALTER DATABASE clinic\n    IS_TEMPLATE = true;",
        b"CREATE DATABASE clinic WITH TEMPLATE = template0;",
        b"DROP DATABASE IF EXISTS clinic;",
        b"COMMENT ON DATABASE clinic IS 'records';",
        b"COMMENT ON ROLE app IS 'the service';",
        b"SECURITY LABEL FOR x ON DATABASE clinic IS 'y';",
        b"GRANT CONNECT ON DATABASE clinic TO app;",
        b"GRANT CREATE ON TABLESPACE fast TO app;",
        b"REVOKE SET ON PARAMETER work_mem FROM app;",
        b"GRANT staff TO app WITH ADMIN OPTION GRANTED BY postgres;",
        b"CREATE TABLESPACE fast LOCATION '/srv/fast';",
        b"CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p;",
        b"ALTER SYSTEM SET archive_command TO 'x';",
        b"alter  role app\nset work_mem to '1GB';",
        b"DROP OWNED BY app;",
    ],
)
def test_what_is_about_more_than_the_database_is_left_out(statement):
    assert reaches_beyond(statement)


@pytest.mark.parametrize(
    "statement",
    [
        b"ALTER TABLE clinic.visit OWNER TO app;",
        b"CREATE USER MAPPING FOR app SERVER far OPTIONS (\"user\" 'x');",
        b"ALTER USER MAPPING FOR app SERVER far OPTIONS (SET \"user\" 'x');",
        b"GRANT SELECT ON TABLE clinic.visit TO app;",
        b"GRANT ALL ON SCHEMA clinic TO app;",
        b"GRANT SELECT(id),UPDATE(id) ON TABLE clinic.visit TO app;",
        b"REVOKE USAGE ON TYPE clinic.kind FROM PUBLIC;",
        b"CREATE TABLE role (database text);",
        b"CREATE SCHEMA role;",
        b"COMMENT ON TABLE clinic.visit IS 'ALTER ROLE x';",
        b"ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA clinic GRANT SELECT ON TABLES TO reader;",
        b"CREATE PUBLICATION p FOR ALL TABLES;",
        b"CREATE POLICY p ON clinic.visit TO app USING (true);",
        b"SET default_table_access_method = heap;",
    ],
)
def test_what_is_of_the_database_is_restored(statement):
    assert not reaches_beyond(statement)
