/**
 * A backup of a hub that is at work, and what comes of it: a hub with the same accounts, keys, money and node key, on an
 * embedded database and on an outside one.
 */
import { execFile } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Agent, createMemoryFiles, createNodeHost, createScriptedEngine, startAgent } from "@gfe/agent";
import { backup, createPool, type Hub, inspectBackup, parseConfig, restoreOutside, startHub } from "@gfe/hub";
import { createTestDatabase } from "@gfe/hub/testing";
import { createLedger } from "@gfe/ledger";
import type pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { joinScripted } from "./agents.ts";
import { createHubHome } from "./hub-process.ts";
import { auditProblems, type Person, startWorld, until, type World } from "./world.ts";

const MAIN = fileURLToPath(new URL("../../cli/src/main.ts", import.meta.url));
/** Filled while a hub runs, by log-ins through a provider of them, by failed log-ins, and by what is swept before a test could look. */
const MAY_BE_EMPTY = ["hubs", "rateLimit", "verification", "webhook_deliveries"];
const CHATS_AT_ONCE = 4;

let home: string;
const undo: (() => Promise<unknown> | unknown)[] = [];
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "gfe-sim-backup-"));
  chmodSync(home, 0o711); // PostgreSQL runs as another user where we are root
  undo.push(() => rmSync(home, { recursive: true, force: true }));
});
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const CHAT = { model: "m", messages: [{ role: "user", content: "tell me\tof \\N and \u{1F600}" }] };

/** One of everything that a hub keeps. */
async function fill(world: World, consumer: Person, provider: Person): Promise<void> {
  const ok = async (method: string, path: string, options: Parameters<World["call"]>[2]) => {
    const answer = await world.call(method, path, options);
    expect([path, answer.status < 300, answer.body]).toEqual([path, true, answer.body]);
    return answer.body;
  };
  const { x_gfe } = await ok("POST", "/v1/chat/completions", { as: consumer, body: CHAT });
  await ok("POST", `/api/v1/jobs/${x_gfe.job_id}/dispute`, { as: consumer, body: { reason: "gibberish" } });
  await world.pool.query(
    "INSERT INTO first_credits (node_key, user_id, amount_micro, paid) VALUES ($1, $2, 1, true)",
    [...["key", provider.userId]],
  );
  await ok("POST", "/v1/responses", { as: consumer, body: { model: "m", input: "hello" } });
  await ok("POST", "/api/v1/keys", {
    session: consumer,
    body: { label: "bounded", budget_micro: "5000000" },
  });
  await ok("POST", "/api/v1/webhooks", {
    as: consumer,
    body: { url: "https://127.0.0.1:9/hook", events: ["job.completed"] },
  });
  await ok("PUT", "/api/v1/prices", {
    as: provider,
    body: { model: "dear", price: { per_request: "1", per_million_input: "0", per_million_output: "0" } },
  });
  await ok("POST", "/api/v1/jobs", { as: consumer, body: CHAT });
  await ok("POST", "/api/computing/submit-job/", { as: consumer, body: { model: "m", prompt: "hi" } });
  await ok("POST", "/api/auth/device/code", { body: { client_id: "gfe-agent" } });
  const form = new FormData();
  form.set("purpose", "batch");
  const line = { custom_id: "a", method: "POST", url: "/v1/chat/completions", body: CHAT };
  form.set("file", new Blob([`${JSON.stringify(line)}\n`]), "lines.jsonl");
  const uploaded = await fetch(`${world.hub.url}/v1/files`, {
    method: "POST",
    headers: { authorization: `Bearer ${consumer.key}` },
    body: form,
  });
  const file = (await uploaded.json()) as { id: string };
  const batch = await ok("POST", "/v1/batches", {
    as: consumer,
    body: { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" },
  });
  await until(
    async () =>
      (await world.call("GET", `/v1/batches/${batch.id}`, { as: consumer })).body.status === "completed",
    "the batch is done",
  );
}

/** Rows of each table, as text and sorted, and where the sequences stand. */
async function contentOf(pool: pg.Pool): Promise<Map<string, string[]>> {
  const content = new Map<string, string[]>();
  const { rows: tables } = await pool.query<{ name: string }>(
    "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'migrations'",
  );
  for (const { name } of tables) {
    const { rows } = await pool.query<{ row: string }>(`SELECT t::text AS row FROM "${name}" t ORDER BY 1`);
    content.set(
      name,
      rows.map(({ row }) => row),
    );
  }
  const { rows } = await pool.query<{ name: string; last_value: string }>(
    "SELECT sequencename AS name, last_value::text FROM pg_sequences ORDER BY 1",
  );
  content.set(
    "(sequences)",
    rows.map(({ name, last_value }) => `${name} ${last_value}`),
  );
  return content;
}

describe("a backup of a hub on an outside database", () => {
  let world: World;
  let consumer: Person;
  let agent: Agent;
  beforeEach(async () => {
    world = await startWorld({
      GFE_SIGNUP_CREDITS: "100000",
      GFE_WEBHOOK_ALLOW_PRIVATE: "1",
      GFE_DATA_DIR: join(home, "first"),
    });
    undo.push(() => world.stop());
    consumer = await world.person("consumer");
    const provider = await world.person("provider");
    agent = await joinScripted(
      { models: [{ name: "m", slots: 8 }], deltas: 5 },
      { hubUrl: world.hub.url, token: provider.agentToken },
    );
    undo.push(() => agent.stop());
    await fill(world, consumer, provider);
  });

  /** Into a database of its own, which is given back. */
  async function restored(path: string): Promise<{ pool: pg.Pool; url: string; dataDir: string }> {
    const database = await createTestDatabase();
    undo.push(() => database.drop());
    const dataDir = join(home, `restored-${undo.length}`);
    await restoreOutside(database.url, dataDir, await inspectBackup(path), {}, async () => {});
    const pool = createPool(database.url, () => {});
    undo.push(() => pool.end());
    return { pool, url: database.url, dataDir };
  }
  const take = (name: string, onTable: () => Promise<void> = async () => {}) =>
    backup({
      databaseUrl: connectionOf(world.pool),
      dataDir: join(home, "first"),
      path: join(home, name),
      hubVersion: "test",
      now: new Date(),
      onProgress: onTable,
    });

  it("taken while jobs begin and end has books that balance, with each job whole or not there", async () => {
    let stop = false;
    let answered = 0;
    const traffic = Array.from({ length: CHATS_AT_ONCE }, async () => {
      while (!stop) {
        const { status } = await world.call("POST", "/v1/chat/completions", { as: consumer, body: CHAT });
        expect(status).toBe(200);
        answered++;
      }
    });
    await until(() => answered > 10, "there is traffic");
    // Between any two tables jobs begin, are answered and settled.
    const { path } = await take("busy", async () => {
      const before = answered;
      await until(() => answered > before, "jobs went on");
    });
    stop = true;
    await Promise.all(traffic);

    const { pool } = await restored(path);
    expect(await auditProblems(pool, createLedger({ pool }))).toEqual([]);
    const { rows } = await pool.query("SELECT count(*)::int AS n FROM jobs");
    expect(rows[0].n).toBeGreaterThan(10);
    expect(rows[0].n).toBeLessThan(answered);
  }, 60_000);

  it("has every row of every table, and a hub that starts on it knows its people, their keys and their money", async () => {
    await agent.stop();
    await until(async () => (await world.ledger.openHolds()).length === 0, "every hold is resolved");
    const hub = world.hub;
    await hub.stop(); // so that nothing is written meanwhile
    const { path } = await take("quiet");
    const content = await contentOf(world.pool);
    const empty = [...content].filter(([, rows]) => rows.length === 0).map(([name]) => name);
    expect(empty.filter((name) => !MAY_BE_EMPTY.includes(name))).toEqual([]);
    const { pool, url, dataDir } = await restored(path);
    expect(await contentOf(pool)).toEqual(content);

    const available = await world.available(consumer);
    const copy = await startCopy(url, dataDir);
    const me = await fetch(`${copy.url}/api/v1/me`, { headers: { authorization: `Bearer ${consumer.key}` } });
    expect(((await me.json()) as { balance: object }).balance).toMatchObject({
      available_micro: `${available}`,
    });
    await copy.stop();
  }, 60_000);

  async function startCopy(databaseUrl: string, dataDir: string): Promise<Hub> {
    const parsed = parseConfig({
      ...{ PORT: "0", DATABASE_URL: databaseUrl, GFE_DATA_DIR: dataDir },
      ...{ GFE_LOG_LEVEL: "fatal", GFE_DRAIN_MS: "0", GFE_CANARY_INTERVAL: "0" },
    });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
    return startHub(parsed.config);
  }
});

const connectionOf = (pool: pg.Pool): string => pool.options.connectionString!;

describe("a backup of a hub on its embedded database", () => {
  it("is taken while the hub runs, and a new data directory from it is the same hub to its people and its nodes", async () => {
    const first = await createHubHome();
    undo.push(() => first.clean());
    const hub = await first.start(ENV);
    const { cookie, key, token } = await signUp(first.url);
    // One host for both hubs: the agent pins the key of the hub that it joined.
    const host = createNodeHost({ files: createMemoryFiles(), configDir: "/config", stateDir: "/state" });
    const joinAgent = () =>
      startAgent({
        ...{ host, gpus: [], name: "node", hubUrl: first.url, token },
        engines: [createScriptedEngine(host, { models: [{ name: "m" }] })],
      });
    const agent = await joinAgent();
    undo.push(() => agent.stop());
    expect((await chat(first.url, key)).status).toBe(200);

    const env = { GFE_DATA_DIR: first.dataDir };
    const path = join(home, "embedded.gz");
    expect(await lastBackupS(first.url)).toBe(0);
    await gfe(["backup", "--to", path], env);
    expect(Math.abs((await lastBackupS(first.url)) - Date.now() / 1000)).toBeLessThan(60);
    expect((await chat(first.url, key)).status).toBe(200); // it went on
    expect(JSON.parse(await gfe(["ledger", "verify", "--json"], env))).toMatchObject({ ok: true });
    const before = await balanceOf(first.url, cookie);
    await agent.stop();
    await hub.kill("SIGTERM");

    const dataDir = `${first.dataDir}-restored`;
    const restored = JSON.parse(await gfe(["restore", path, "--verify", "--into", dataDir, "--json"], {}));
    expect(restored).toMatchObject({ ok: true, target: dataDir });
    await first.start({ ...ENV, GFE_DATA_DIR: dataDir });
    expect(await balanceOf(first.url, cookie)).toBe(before + CREDIT); // the second chat was after the backup
    const again = await joinAgent();
    undo.push(() => again.stop());
    expect((await chat(first.url, key)).status).toBe(200);
    expect(await balanceOf(first.url, cookie)).toBe(before);
  }, 90_000);

  const CREDIT = 1_000_000n;
  const ENV = { GFE_SIGNUP_CREDITS: "100", GFE_FEE_PERCENT: "5", GFE_DRAIN_MS: "1000" };

  async function gfe(args: string[], env: Record<string, string>): Promise<string> {
    const { stdout } = await promisify(execFile)(process.execPath, [MAIN, ...args], {
      env: { PATH: process.env.PATH, HOME: home, ...env },
    });
    return stdout;
  }

  const chat = (url: string, key: string) =>
    fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify(CHAT),
    });

  async function lastBackupS(url: string): Promise<number> {
    const metrics = await (await fetch(`${url}/metrics`)).text();
    return Number(/^gfe_last_backup_timestamp_seconds (\S+)$/m.exec(metrics)?.[1]);
  }

  async function balanceOf(url: string, cookie: string): Promise<bigint> {
    const me = (await (await fetch(`${url}/api/v1/me`, { headers: { cookie } })).json()) as {
      balance: { available_micro: string };
    };
    return BigInt(me.balance.available_micro);
  }

  /** A consumer, with a key, and a provider's agent token. */
  async function signUp(url: string): Promise<{ cookie: string; key: string; token: string }> {
    const cookies: string[] = [];
    for (const name of ["provider", "consumer"]) {
      const response = await fetch(`${url}/api/auth/sign-up/email`, {
        method: "POST",
        headers: { "content-type": "application/json", origin: url },
        body: JSON.stringify({ name, email: `${name}@example.org`, password: "correct horse battery" }),
      });
      cookies.push(
        response.headers
          .getSetCookie()
          .map((line) => line.split(";")[0])
          .join("; "),
      );
    }
    const make = async (path: string, cookie: string) => {
      const response = await fetch(url + path, {
        method: "POST",
        headers: { "content-type": "application/json", origin: url, cookie },
        body: JSON.stringify({ label: "test" }),
      });
      return ((await response.json()) as { secret: string }).secret;
    };
    const [provider, consumer] = cookies as [string, string];
    return {
      cookie: consumer,
      key: await make("/api/v1/keys", consumer),
      token: await make("/api/v1/agent-tokens", provider),
    };
  }
});
