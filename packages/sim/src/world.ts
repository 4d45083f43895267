/** A hub on a database of its own, with people: what whole-system tests stand on. After each test the books must balance. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createPool, type Hub, parseConfig, startHub } from "@gfe/hub";
import { createTestDatabase } from "@gfe/hub/testing";
import { createLedger, type Ledger } from "@gfe/ledger";
import type pg from "pg";

export interface Person {
  name: string;
  userId: string;
  cookie: string;
  /** An API key with every scope. */
  key: string;
  agentToken: string;
  agentTokenId: string;
}

export interface World {
  /** The one that runs now. */
  readonly hub: Hub;
  pool: pg.Pool;
  ledger: Ledger;
  person(name: string): Promise<Person>;
  /** JSON in, JSON out; `as` sends a person's key, or its cookie for `session`. */
  call(
    method: string,
    path: string,
    options?: { as?: Person; session?: Person; body?: unknown; headers?: Record<string, string> },
  ): Promise<Answer>;
  available(person: Person): Promise<bigint>;
  /** Starts another hub on the same database, with a data directory of its own; it ends with the world. */
  another(): Promise<Hub>;
  /** Stops the hub and starts it again, at its address and on its data. */
  restart(): Promise<void>;
  /** Waits until no hold is open, checks every invariant, stops everything. */
  end(): Promise<void>;
  /** Stops everything, whatever the books say. */
  stop(): Promise<void>;
}

export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  body: any;
  headers: Headers;
}

/** `reach` may put something between the hubs and their database, and gives the address for them. */
export async function startWorld(
  env: Record<string, string> = {},
  reach: (databaseUrl: string) => Promise<string> = async (url) => url,
): Promise<World> {
  const database = await createTestDatabase();
  const directories: string[] = [];
  const newDirectory = () => {
    directories.push(mkdtempSync(join(tmpdir(), "gfe-world-")));
    return directories.at(-1)!;
  };
  const parsed = parseConfig({
    PORT: "0",
    DATABASE_URL: await reach(database.url),
    GFE_DATA_DIR: newDirectory(),
    GFE_LOG_LEVEL: "fatal",
    GFE_LOGINS_MAX: "100000",
    GFE_DRAIN_MS: "1000",
    GFE_DRAIN_NOTICE_MS: "0",
    GFE_CANARY_INTERVAL: "0",
    ...env,
  });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const { config } = parsed;
  let hub = await startHub(config);
  const others: Hub[] = [];
  const pool = createPool(database.url, () => {});
  const ledger = createLedger({ pool });
  let people = 0;

  const call: World["call"] = async (method, path, { as, session, body, headers = {} } = {}) => {
    const response = await fetch(hub.url + path, {
      method,
      headers: {
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(as ? { authorization: `Bearer ${as.key}` } : {}),
        ...(session ? { cookie: session.cookie, origin: hub.url } : {}),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: parse(text), headers: response.headers };
  };

  async function person(name: string): Promise<Person> {
    const email = `${name}-${people++}@example.org`;
    const signUp = await call("POST", "/api/auth/sign-up/email", {
      body: { name, email, password: "correct horse battery" },
      headers: { origin: hub.url },
    });
    if (signUp.status !== 200)
      throw new Error(`sign-up answered ${signUp.status}: ${JSON.stringify(signUp.body)}`);
    const cookie = signUp.headers
      .getSetCookie()
      .map((line) => line.split(";")[0])
      .join("; ");
    const blank: Person = {
      name,
      userId: signUp.body.user.id,
      cookie,
      key: "",
      agentToken: "",
      agentTokenId: "",
    };
    const key = await call("POST", "/api/v1/keys", {
      session: blank,
      body: { label: "test", scopes: ["inference", "read", "manage"] },
    });
    const token = await call("POST", "/api/v1/agent-tokens", { session: blank, body: { label: "test" } });
    return {
      ...blank,
      key: key.body.secret,
      agentToken: token.body.secret,
      agentTokenId: token.body.agent_token.id,
    };
  }

  async function stop(): Promise<void> {
    await Promise.all([hub, ...others].map((one) => one.stop()));
    await pool.end();
    await database.drop();
    for (const directory of directories) rmSync(directory, { recursive: true, force: true });
  }

  return {
    get hub() {
      return hub;
    },
    pool,
    ledger,
    person,
    call,
    async available({ userId }) {
      return (await ledger.balance(`user:${userId}`))?.available ?? 0n;
    },
    async another() {
      const other = await startHub({ ...config, port: 0, dataDir: newDirectory() });
      others.push(other);
      return other;
    },
    async restart() {
      await hub.stop();
      hub = await startHub({ ...config, port: hub.port });
    },
    async end() {
      try {
        await until(async () => (await ledger.openHolds()).length === 0, "every hold is resolved");
        await audit(pool, ledger);
      } finally {
        await stop();
      }
    },
    stop,
  };
}

/** The ledger's own invariants, and that jobs and ledger tell the same story. Throws with what is wrong. */
export async function audit(pool: pg.Pool, ledger: Ledger): Promise<void> {
  const problems = await auditProblems(pool, ledger);
  if (problems.length > 0) throw new Error(`the audit failed:\n${problems.join("\n")}`);
}

/** The same as a list, empty where all is well. */
export async function auditProblems(pool: pg.Pool, ledger: Ledger): Promise<string[]> {
  const broken = (await ledger.verify()).checks.filter(({ ok }) => !ok);
  const { rows } = await pool.query<{ id: string; problem: string }>(`
    SELECT j.id, 'a job and its hold disagree' AS problem FROM jobs j LEFT JOIN ledger_holds h ON h.id = j.id
      WHERE h.id IS NULL OR h.amount <> j.held_micro OR h.settled <> j.cost_micro OR (j.state = 'running') <> (h.state = 'open')
    UNION ALL
    SELECT j.id, 'a job was not paid as it says' FROM jobs j LEFT JOIN (
        SELECT hold_id, sum(amount) FILTER (WHERE credit = 'hub:fees') AS fee, sum(amount) FILTER (WHERE credit <> 'hub:fees') AS pay
        FROM ledger_transfers WHERE hold_id IS NOT NULL GROUP BY hold_id
      ) t ON t.hold_id = j.id
      WHERE coalesce(t.fee, 0) <> j.fee_micro OR coalesce(t.pay, 0) <> j.cost_micro - j.fee_micro
    UNION ALL
    SELECT coalesce(a.job_id, t.hold_id), 'a node was not paid for what it delivered' FROM (
        SELECT job_id, 'user:' || provider_id AS payee, sum(cost_micro - fee_micro) AS owed, count(*) AS n FROM attempts
        WHERE cost_micro > 0 GROUP BY 1, 2
      ) a FULL JOIN (
        SELECT hold_id, credit AS payee, sum(amount) AS paid, count(*) AS n FROM ledger_transfers
        WHERE hold_id IS NOT NULL AND credit <> 'hub:fees' GROUP BY 1, 2
      ) t ON t.hold_id = a.job_id AND t.payee = a.payee
      WHERE coalesce(a.owed, 0) <> coalesce(t.paid, 0) OR t.n > a.n
    UNION ALL
    SELECT j.id, 'a job and its attempts disagree' FROM jobs j
      WHERE j.ended_at IS NOT NULL AND (j.cost_micro, j.fee_micro) <>
        (SELECT coalesce(sum(a.cost_micro), 0), coalesce(sum(a.fee_micro), 0) FROM attempts a WHERE a.job_id = j.id)
    UNION ALL
    SELECT DISTINCT j.id, 'an account was paid for serving itself' FROM jobs j JOIN attempts a ON a.job_id = j.id
      WHERE j.consumer_id IN (a.provider_id, j.provider_id) AND a.cost_micro > 0`);
  return [
    ...broken.map(({ name, detail }) => `not so: ${name} (${detail})`),
    ...rows.map(({ id, problem }) => `${problem}: ${id}`),
  ];
}

const UNTIL_MS = 10_000;

/** Asks again and again until it is so; throws after a bounded time. For states that no event tells of. */
export async function until(
  condition: () => Promise<boolean> | boolean,
  what: string,
  withinMs = UNTIL_MS,
): Promise<void> {
  for (const deadline = performance.now() + withinMs; !(await condition()); ) {
    if (performance.now() > deadline) throw new Error(`it never came to be that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
