import { readdirSync, readFileSync } from "node:fs";

export interface Migration {
  name: string;
  sql: string;
}

/** The numbered `.sql` files of a folder, in order. */
export function readMigrations(folder: URL): Migration[] {
  return readdirSync(folder)
    .filter((file) => /^\d{4}-[a-z0-9-]+\.sql$/.test(file))
    .sort()
    .map((file) => ({ name: file, sql: readFileSync(new URL(file, folder), "utf8") }));
}

export const ledgerMigrations: Migration[] = readMigrations(new URL("./migrations/", import.meta.url)).map(
  ({ name, sql }) => ({
    name: `ledger/${name}`,
    sql,
  }),
);
