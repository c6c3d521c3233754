// What node-pg can say to a server. Prints, as JSON and in order, the statements that it ran and what it was told of
// each: rows, or SQLSTATE. The server's own log tells the parameters.
const { Client } = require(process.env.NODE_PG);

const told = [];

async function run(client, query) {
  const text = typeof query === "string" ? query : query.text;
  try {
    const result = await client.query(query);
    told.push({ text, rows: result.rowCount, status: null });
  } catch (error) {
    told.push({ text, rows: null, status: error.code });
  }
}

async function main() {
  const ssl = process.env.PGSSLMODE === "require" ? { rejectUnauthorized: false } : false;
  const client = new Client({ ssl, application_name: process.env.PGAPPNAME });
  await client.connect();
  const backend = client.processID;
  await run(client, "CREATE TEMP TABLE goods (id int PRIMARY KEY, name text)");
  await run(client, "INSERT INTO goods VALUES (1, 'one'), (2, NULL)");
  await run(client, "SELECT * FROM goods ORDER BY id");
  await run(client, "SELEC simple_typo");
  await run(client, "SELECT 1/0 AS simple_zero");
  const values = [
    ["int4", 7], ["int8", "-7000000000"], ["float8", 1.5], ["numeric", "-12345.6789"], ["bool", "true"],
    ["text", "plain wörds, it's \"quoted\"\nand broken"], ["text", ""], ["text", null],
    ["timestamptz", "2024-02-29T12:34:56.789+00:00"], ["jsonb", "{\"b\": {\"c\": true}}"],
    ["int4[]", "{1,70000,NULL}"], ["text[]", "{NULL}"], ["text[]", null],
  ];
  for (const [number, [kind, value]] of values.entries()) {
    await run(client, { text: `SELECT $1::${kind} AS value_${number}, $2::int4 AS nth`, values: [value, number] });
  }
  // Used again under its name, and answered in binary.
  for (let number = 0; number < 4; number++) {
    const text = "SELECT n FROM generate_series(1, $1) AS n";
    await run(client, { name: "series", text, values: [number], binary: true });
  }
  await run(client, { text: "SELECT 1 / $1::int4 AS bound_zero", values: [0] });
  await run(client, { text: "INSERT INTO goods VALUES ($1, $2)", values: [1, "again"] });
  // Sent at once: the client queues them, the server sees one after the other.
  await Promise.all([3, 4, 5].map((id) => run(client, { text: "INSERT INTO goods VALUES ($1, $2)", values: [id, "x"] })));
  await run(client, "DELETE FROM goods");
  await client.end();
  console.log(JSON.stringify({ backend, told }));
}

main();
