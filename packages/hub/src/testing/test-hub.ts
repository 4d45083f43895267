/** A whole hub on a free port and a fresh database, for tests that go through real sockets. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { parseConfig } from "../config.ts";
import { type Hub, startHub } from "../hub.ts";
import { createTestDatabase } from "./database.ts";

export interface TestHub extends Hub {
  /** On the hub's database, to look at what it wrote. */
  pool: pg.Pool;
  /** Registers somebody; `cookie` is its session, to be sent with `origin: url`. */
  signUp(email?: string): Promise<{ userId: string; email: string; cookie: string }>;
  /** Stops the hub and deletes what it made. */
  close(): Promise<void>;
}

/** `env` as for a hub that is started by hand; log-ins are not throttled unless it says so. */
export async function startTestHub(env: Record<string, string> = {}): Promise<TestHub> {
  const database = await createTestDatabase();
  const dataDir = mkdtempSync(join(tmpdir(), "gfe-hub-"));
  const clean = async () => {
    rmSync(dataDir, { recursive: true, force: true });
    await database.drop();
  };
  const parsed = parseConfig({
    PORT: "0",
    DATABASE_URL: database.url,
    GFE_DATA_DIR: dataDir,
    GFE_LOG_LEVEL: "silent",
    GFE_LOGINS_MAX: "1000",
    GFE_DRAIN_MS: "500",
    GFE_CANARY_INTERVAL: "0",
    ...env,
  });
  if (!parsed.ok) {
    await clean();
    throw new Error(`the test's configuration is wrong: ${JSON.stringify(parsed.problems)}`);
  }
  const hub = await startHub(parsed.config).catch(async (error: unknown) => {
    await clean();
    throw error;
  });
  const pool = new pg.Pool({ connectionString: database.url, max: 2 });
  pool.on("error", () => {});
  let users = 0;
  return {
    ...hub,
    pool,
    async signUp(email = `person${++users}@example.test`) {
      const response = await postJson(`${hub.url}/api/auth/sign-up/email`, {
        email,
        password: PASSWORD,
        name: "Person",
      });
      if (response.status !== 200)
        throw new Error(`sign-up answered ${response.status} ${await response.text()}`);
      const { user } = (await response.json()) as { user: { id: string } };
      return { userId: user.id, email, cookie: cookieOf(response) };
    },
    async close() {
      await hub.stop();
      await pool.end();
      await clean();
    },
  };
}

/** Of everybody that `signUp` makes. */
export const PASSWORD = "correct horse battery";

export function postJson(
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
    redirect: "manual",
  });
}

/** The cookies that a response sets, as a request sends them. */
export function cookieOf(response: Response): string {
  return response.headers
    .getSetCookie()
    .map((line) => line.split(";")[0]!)
    .join("; ");
}
