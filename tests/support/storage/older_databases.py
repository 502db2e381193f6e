"""Databases as others left them: a Promscale, and promcompat before its migration 0007.

The tables of Promscale are those of its public schema (promscale_extension, `006-tables.sql`),
without roles and jobs. Before migration 0007, the tables of promcompat were in the schema `public`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from promcompat.core.model import METRIC_NAME, Labels
from sql.query_loader import load_migrations, load_queries
from tests.support.storage.repositories import connected

_SCHEMA = """
CREATE SCHEMA _prom_catalog;
CREATE SCHEMA prom_api;
CREATE SCHEMA prom_data;
CREATE DOMAIN prom_api.label_array AS int[] NOT NULL;
CREATE TABLE _prom_catalog.label (
    id serial CHECK (id > 0), key text, value text, PRIMARY KEY (id), UNIQUE (key, value)
);
CREATE TABLE _prom_catalog.metric (
    id serial PRIMARY KEY,
    metric_name text NOT NULL,
    table_name name NOT NULL,
    creation_completed boolean NOT NULL DEFAULT false,
    table_schema name NOT NULL DEFAULT 'prom_data',
    series_table name NOT NULL,
    is_view boolean NOT NULL DEFAULT false
);
CREATE TABLE _prom_catalog.series (
    id bigint NOT NULL,
    metric_id int NOT NULL,
    labels prom_api.label_array NOT NULL,
    delete_epoch bigint NULL
) PARTITION BY LIST (metric_id);
"""
_TABLE = """
CREATE TABLE prom_data.{table} (
    time timestamptz NOT NULL, value double precision NOT NULL, series_id bigint NOT NULL,
    UNIQUE (series_id, time) INCLUDE (value)
);
SELECT create_hypertable('prom_data.{table}', 'time', chunk_time_interval => interval '8 hours');
CREATE TABLE _prom_catalog.series_{metric} PARTITION OF _prom_catalog.series
FOR VALUES IN ({metric});
"""
_SAMPLES = """
INSERT INTO prom_data.{table}
SELECT timestamptz 'epoch' + t * interval '1 millisecond', v, $1
FROM unnest($2::bigint[], $3::float8[]) AS u (t, v)
"""
_LABEL = """
INSERT INTO _prom_catalog.label (key, value) VALUES ($1, $2)
ON CONFLICT (key, value) DO UPDATE SET key = excluded.key RETURNING id
"""


async def fill_promscale(
    url: str, series: Mapping[Labels, Sequence[tuple[int, float]]], deleted: frozenset[Labels]
) -> None:
    """Make an empty database with TimescaleDB that of a Promscale with these samples (Unix ms).

    The series in `deleted` are marked as such.
    """
    async with connected(url) as connection:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        await connection.execute(_SCHEMA)
        tables: dict[str, tuple[int, str]] = {}
        for number, (labels, points) in enumerate(series.items(), start=1):
            name = labels.get(METRIC_NAME)
            if name not in tables:
                metric = await connection.fetchval(
                    "INSERT INTO _prom_catalog.metric (metric_name, table_name, series_table, "
                    "creation_completed) VALUES ($1::text, $1::text, $1::text, true) RETURNING id",
                    name,
                )
                table = '"' + name.replace('"', '""') + '"'
                await connection.execute(_TABLE.format(table=table, metric=metric))
                tables[name] = metric, table
            metric, table = tables[name]
            # A label that this series of the metric does not have has the number 0.
            ids = [0, *[await connection.fetchval(_LABEL, *pair) for pair in labels.pairs]]
            await connection.execute(
                "INSERT INTO _prom_catalog.series VALUES ($1, $2, $3, $4)",
                number,
                metric,
                ids,
                1 if labels in deleted else None,
            )
            await connection.execute(
                _SAMPLES.format(table=table),
                number,
                [time_ms for time_ms, _ in points],
                [value for _, value in points],
            )


_LAST_MIGRATION = 6
_ROUTINES = Path(__file__).with_name("routines_of_migration_0006.sql")


async def make_early_database(url: str, last_migration: int = _LAST_MIGRATION) -> None:
    """Run the migrations up to `last_migration`, and routines of that time, in `public`."""
    queries = load_queries("migration")
    async with connected(url) as connection, connection.transaction():
        await connection.execute("SET LOCAL search_path = public")
        await connection.execute(queries["create_migration_table"])
        for step in load_migrations()[:last_migration]:
            await connection.execute(step.text)
            await connection.execute(
                queries["record_migration"], step.version, step.name, step.checksum
            )
        await connection.execute(queries["create_routine_table"])
        await connection.execute(_ROUTINES.read_text("utf-8"))
        await connection.execute(queries["record_routines"], "of an early version")
