/** What a database of ours is made of, as its own catalogue tells. */
import pg from "pg";
import type { Manifest, Sequence } from "./format.ts";

export type Table = Manifest["tables"][number];

/** The list of what migrate() did: restored by doing it again. */
const MIGRATIONS = "migrations";
const OWN = "c.relnamespace = current_schema()::regnamespace";
const OF_NO_EXTENSION =
  "NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

export const quote = (name: string): string => pg.escapeIdentifier(name);

/** Tables with the columns that hold something of their own, those that are referred to before those that refer. */
export async function listTables(client: pg.ClientBase): Promise<Table[]> {
  const { rows: tables } = await client.query<Table>(
    `SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
     FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
     WHERE ${OWN} AND c.relkind = 'r' AND c.relname <> $1 AND ${OF_NO_EXTENSION} GROUP BY c.relname ORDER BY c.relname`,
    [MIGRATIONS],
  );
  const { rows: keys } = await client.query<{ from: string; to: string }>(
    `SELECT c.relname AS "from", t.relname AS "to" FROM pg_constraint k
     JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class t ON t.oid = k.confrelid
     WHERE ${OWN} AND k.contype = 'f' AND k.conrelid <> k.confrelid`,
  );
  return inOrder(tables, keys);
}

/** Stable: by name where keys do not say otherwise. Throws where tables refer to each other in a circle. */
export function inOrder(tables: Table[], keys: { from: string; to: string }[]): Table[] {
  const left = [...tables];
  const ordered: Table[] = [];
  while (left.length > 0) {
    const waits = ({ name }: Table) =>
      keys.some(({ from, to }) => from === name && left.some((other) => other.name === to));
    const next = left.findIndex((table) => !waits(table));
    if (next < 0)
      throw new Error(
        `The tables ${left.map(({ name }) => name).join(", ")} refer to each other in a circle`,
      );
    ordered.push(...left.splice(next, 1));
  }
  return ordered;
}

/** Where each sequence stands. Sequences know no snapshot, so read them after the tables: then none is behind. */
export async function listSequences(client: pg.ClientBase): Promise<Sequence[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_class c WHERE ${OWN} AND c.relkind = 'S' AND ${OF_NO_EXTENSION} ORDER BY 1`,
  );
  const sequences: Sequence[] = [];
  for (const { name } of rows) {
    const { rows: states } = await client.query<{ value: string; called: boolean }>(
      `SELECT last_value::text AS value, is_called AS called FROM ${quote(name)}`,
    );
    sequences.push({ name, ...states[0]! });
  }
  return sequences;
}

/** Applied migrations, in their order; null where the database is not a hub's. */
export async function listMigrations(client: pg.ClientBase): Promise<Manifest["migrations"] | null> {
  const { rows } = await client.query("SELECT to_regclass($1) IS NOT NULL AS known", [MIGRATIONS]);
  if (!rows[0].known) return null;
  return (
    await client.query<{ name: string; hash: string }>(
      `SELECT name, hash FROM ${MIGRATIONS} ORDER BY applied_at, name`,
    )
  ).rows;
}

const FOREIGN = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'";

/** Schemas with tables that are not ours: a library's, say, which makes them by itself. */
export async function listOtherSchemas(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT DISTINCT n.nspname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE ${FOREIGN} AND n.nspname <> current_schema() AND c.relkind IN ('r', 'p') AND ${OF_NO_EXTENSION} ORDER BY 1`,
  );
  return rows.map(({ name }) => name);
}

/** Names of what lies in the database, of whichever schema. */
export async function listEverything(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE ${FOREIGN} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND ${OF_NO_EXTENSION} ORDER BY c.relkind <> 'r', 1`,
  );
  return rows.map(({ name }) => name);
}
