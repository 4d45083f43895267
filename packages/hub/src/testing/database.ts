import { randomBytes } from "node:crypto";
import pg from "pg";

const OBJECT_IN_USE = "55006";

/**
 * A fresh, empty database on the tests' shared server. `drop` deletes it: connections that are just being closed get
 * the seconds that PostgreSQL gives them by itself, those that a test forgot are ended.
 */
export async function createTestDatabase(): Promise<{ url: string; drop(): Promise<void> }> {
  const server = process.env.GFE_TEST_DATABASE_URL;
  if (!server)
    throw new Error(
      "GFE_TEST_DATABASE_URL is not set: run tests with `npm test`, whose global set-up starts a server",
    );
  const name = `test_${randomBytes(8).toString("hex")}`;
  await admin(server, `CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    async drop() {
      await admin(server, `DROP DATABASE IF EXISTS ${name}`).catch((error: { code?: string }) => {
        if (error.code !== OBJECT_IN_USE) throw error;
        return admin(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
      });
    },
  };
}

async function admin(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
