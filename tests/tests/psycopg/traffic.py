# What psycopg can say to a server, statement by statement. Prints, as JSON and in the order in which the server
# runs them, what the client was told of each: rows, or SQLSTATE. The server's own log tells text and parameters.
import datetime
import decimal
import json
import uuid

import psycopg
from psycopg.types.json import Json, Jsonb

told = []


def ran(cursor):
    told.append({"rows": cursor.rowcount if cursor.rowcount >= 0 else None, "status": None})


def fails(run):
    try:
        run()
    except psycopg.Error as error:
        told.append({"rows": None, "status": error.sqlstate})
    else:
        raise SystemExit("it should have failed")


MOMENT = datetime.datetime(2024, 2, 29, 12, 34, 56, 789000, tzinfo=datetime.timezone.utc)
NAME = uuid.UUID("6f1c1a52-2f7c-4b51-9d3e-0a4b7c8d9e0f")
# One value a type, with the type that the server is told where the client's own choice is not sure.
VALUES = [
    ("int2", 7),
    ("int4", 70000),
    ("int8", -7000000000),
    ("float8", 1.5),
    ("numeric", decimal.Decimal("-12345.6789")),
    ("bool", True),
    ("text", "plain wörds, it's \"quoted\"\nand broken"),
    ("text", ""),
    ("text", None),
    ("int4", None),
    ("date", datetime.date(1999, 12, 31)),
    ("timestamptz", MOMENT),
    ("timestamp", MOMENT.replace(tzinfo=None)),
    ("uuid", NAME),
    ("json", Json({"a": [1, None, "two"]})),
    ("jsonb", Jsonb({"b": {"c": True}})),
    ("bytea", b"\x00\x01quiet\xff"),
    ("int4[]", [1, 70000, None]),
    ("text[]", ["one", None, "three words here", ""]),
    ("uuid[]", [NAME]),
    ("timestamptz[]", [MOMENT]),
]


def parameters(connection):
    # Each type in text and in binary, prepared by the server and not.
    for prepare in (False, True):
        for form in ("%t", "%b"):
            for number, (kind, value) in enumerate(VALUES):
                text = f"SELECT {form}::{kind} AS value_{number}, {form}::int4 AS nth"
                ran(connection.execute(text, (value, number), prepare=prepare))
    # Used again under its name.
    for number in range(3):
        ran(connection.execute("SELECT n FROM generate_series(1, %s) AS n", (number,), prepare=True))


def simple(connection):
    ran(connection.execute("CREATE TEMP TABLE goods (id int PRIMARY KEY, name text, price numeric)"))
    ran(connection.execute("INSERT INTO goods VALUES (1, 'one', 1.5), (2, 'two', NULL)"))
    ran(connection.execute("SELECT * FROM goods ORDER BY id"))
    ran(connection.execute("UPDATE goods SET price = 2 WHERE id > 100"))
    fails(lambda: connection.execute("SELECT 1/0 AS simple_zero"))
    fails(lambda: connection.execute("SELEC simple_typo"))
    ran(connection.execute("DELETE FROM goods"))


def errors(connection):
    fails(lambda: connection.execute("SELECT 1/%s::int4 AS bound_zero", (0,)))
    fails(lambda: connection.execute("SELECT %s FROM no_such_table", (1,)))
    fails(lambda: connection.execute("SELECT %t::int4 AS no_number", ("seven",)))
    ran(connection.execute("INSERT INTO goods VALUES (%s, %s)", (1, "first")))
    fails(lambda: connection.execute("INSERT INTO goods VALUES (%s, %s)", (1, "again"), prepare=True))


def many(connection):
    cursor = connection.cursor()
    rows = [(number, f"name {number}") for number in range(10, 60)]
    cursor.executemany("INSERT INTO goods (id, name) VALUES (%s, %s)", rows)
    told.extend({"rows": 1, "status": None} for _ in rows)
    with connection.pipeline():
        cursors = [
            connection.execute("SELECT id FROM goods WHERE id < %s", (number,)) for number in range(10, 30)
        ]
    for cursor in cursors:
        ran(cursor)


def broken_pipeline(connection):
    # The server skips what follows a failure up to the next synchronisation: the third is never run.
    try:
        with connection.pipeline():
            first = connection.execute("SELECT %s::int4 AS before_failure", (1,))
            connection.execute("SELECT 1/%s::int4 AS failure", (0,))
            connection.execute("SELECT %s::int4 AS never_run", (3,))
    except psycopg.Error as error:
        ran(first)
        told.append({"rows": None, "status": error.sqlstate})


def copies(connection):
    cursor = connection.cursor()
    with cursor.copy("COPY goods (id, name) FROM STDIN") as copy:
        for number in range(1000, 1500):
            copy.write_row((number, f"copied {number}"))
    ran(cursor)
    with cursor.copy("COPY (SELECT id, name FROM goods WHERE id >= 1000) TO STDOUT") as copy:
        assert sum(1 for _ in copy.rows()) == 500
    ran(cursor)

    def bad():
        with cursor.copy("COPY goods (id) FROM STDIN") as copy:
            copy.write(b"no number\n")

    fails(bad)


def transactions(connection):
    with connection.transaction():
        told.append({"rows": None, "status": None})  # BEGIN
        with connection.cursor("walk") as cursor:
            cursor.execute("SELECT n FROM generate_series(1, %s) AS n", (25,))
            told.append({"rows": None, "status": None})  # DECLARE
            cursor.itersize = 10
            sizes = []
            while rows := cursor.fetchmany(10):
                told.append({"rows": len(rows), "status": None})
                sizes.append(len(rows))
            told.append({"rows": 0, "status": None})
            assert sizes == [10, 10, 5]
        told.append({"rows": None, "status": None})  # CLOSE
    told.append({"rows": None, "status": None})  # COMMIT


with psycopg.connect(autocommit=True) as connection:
    for part in (simple, parameters, errors, many, broken_pipeline, copies, transactions):
        part(connection)
    print(json.dumps({"backend": connection.info.backend_pid, "told": told}))
