# What asyncpg can say to a server. Prints, as JSON and in order, the statements that it ran and what it was told of
# each: rows, or SQLSTATE. The server's own log tells the parameters.
import asyncio
import datetime
import decimal
import json
import os
import ssl
import uuid

import asyncpg

told = []
MOMENT = datetime.datetime(2024, 2, 29, 12, 34, 56, 789000, tzinfo=datetime.timezone.utc)
NAME = uuid.UUID("6f1c1a52-2f7c-4b51-9d3e-0a4b7c8d9e0f")
POINT = asyncpg.Point(1, 2.5)
VALUES = [
    ("int2", -7),
    ("int4", 70000),
    ("int8", -7000000000),
    ("oid", 4711),
    ("float4", 1.5),
    ("float8", float("inf")),
    ("numeric", decimal.Decimal("-12345.6789")),
    ("numeric", decimal.Decimal("NaN")),
    ("bool", True),
    ("text", "plain wörds, it's \"quoted\"\nand broken"),
    ("text", None),
    ("date", datetime.date(1999, 12, 31)),
    ("time", datetime.time(1, 2, 3, 500000)),
    ("timestamptz", MOMENT),
    ("timestamp", MOMENT.replace(tzinfo=None)),
    ("interval", datetime.timedelta(days=3, seconds=1)),
    ("uuid", NAME),
    ("json", '{"a": [1, null]}'),
    ("jsonb", '{"b": {"c": true}}'),
    ("bytea", b"\x00\x01quiet\xff"),
    ("varbit", asyncpg.BitString("101100001")),
    ("point", POINT),
    ("box", asyncpg.Box(asyncpg.Point(3, 4), POINT)),
    ("circle", asyncpg.Circle(POINT, 2)),
    ("int4range", asyncpg.Range(1, 10)),
    ("tsrange", asyncpg.Range(MOMENT.replace(tzinfo=None), None)),
    ("int4[]", [1, 70000, None]),
    ("int4[]", [[1, 2], [3, None]]),
    ("text[]", ["one", None, "three words here", ""]),
    ("text[]", [None]),
    ("text[]", None),
    ("timestamptz[]", [MOMENT]),
]


async def fetch(connection, text, *values):
    rows = await connection.fetch(text, *values)
    told.append({"text": text, "rows": len(rows), "status": None})


async def execute(connection, text, rows=None):
    await connection.execute(text)
    told.append({"text": text, "rows": rows, "status": None})


async def fails(connection, text, *values):
    try:
        await connection.fetch(text, *values)
    except asyncpg.PostgresError as error:
        told.append({"text": text, "rows": None, "status": error.sqlstate})
    else:
        raise SystemExit("it should have failed")


async def main():
    context = False
    if os.environ["PGSSLMODE"] == "require":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    settings = {"application_name": os.environ["PGAPPNAME"]}
    connection = await asyncpg.connect(ssl=context, server_settings=settings)
    backend = connection.get_server_pid()
    for number, (kind, value) in enumerate(VALUES):
        await fetch(connection, f"SELECT $1::{kind} AS value_{number}", value)
    # Used again out of the client's cache of statements.
    for number in range(4):
        await fetch(connection, "SELECT n FROM generate_series(1, $1) AS n", number)
    await execute(connection, "CREATE TEMP TABLE goods (id int PRIMARY KEY, name text)")
    insert = "INSERT INTO goods VALUES ($1, $2)"
    await connection.executemany(insert, [(number, f"name {number}") for number in range(20)])
    told.extend({"text": insert, "rows": 1, "status": None} for _ in range(20))
    await fails(connection, "SELECT 1 / $1::int4 AS bound_zero", 0)
    await fails(connection, "SELECT $1 FROM no_such_table", 1)
    await fails(connection, "INSERT INTO goods VALUES ($1)", 1)
    rows = [(number, f"copied {number}") for number in range(1000, 1500)]
    await connection.copy_records_to_table("goods", records=rows)
    await execute(connection, "UPDATE goods SET name = 'all' WHERE id >= 1000", 500)
    async with connection.transaction():
        sizes = [row[0] async for row in connection.cursor("SELECT id FROM goods ORDER BY id", prefetch=200)]
        assert len(sizes) == 520
    await connection.close()
    print(json.dumps({"backend": backend, "told": told}))


asyncio.run(main())
