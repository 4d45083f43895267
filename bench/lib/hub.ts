/** Our own side of a bench: a hub with its embedded database, an agent, and a consumer with credit enough. */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { answers, type Child, nodeArguments, startChild } from "./child.ts";
import { cpuMs, descendants } from "./process.ts";

const MAIN = fileURLToPath(new URL("../../packages/cli/src/main.ts", import.meta.url));

/** Fewer than an account may have. */
const TOKENS_PER_ACCOUNT = 20;

export interface BenchAgent {
  nodeId: string;
  pid: number;
  /** As a machine that loses its power. */
  kill(): void;
  ended: Promise<unknown>;
}

export interface BenchHub {
  port: number;
  pid: number;
  url: string;
  /** The consumer's key. */
  key: string;
  newAgentToken(): Promise<string>;
  /** Whose nodes a bench may start by itself. */
  agentToken: string;
  /** What the operator's session may ask. */
  operatorCookie: string;
  /** An account of its own, whose nodes have earned nothing. */
  newProvider(): Promise<{ cookie: string; agentToken: string }>;
  /**
   * Joins a node; resolves when its models are on offer. `program` is an executable instead of the agent on Node, `agentToken`
   * another provider's.
   */
  joinAgent(args: string[], program?: string | null, agentToken?: string): Promise<BenchAgent>;
  /** Milliseconds of CPU that the parts have used since they began. */
  cpu(): { hub: number; agents: number; database: number };
  stop(): Promise<void>;
}

export interface BenchHubOptions {
  /** Settings beside the bench's own. */
  env?: Record<string, string>;
  /** A hub on the same database, whose accounts are these as well. */
  sharing?: BenchHub;
  /** For node, before the program: of the hub, of the agents. */
  hubArguments?: string[];
  agentArguments?: string[];
}

export async function startBenchHub(options: BenchHubOptions = {}): Promise<BenchHub> {
  const dataDir = mkdtempSync(join(tmpdir(), "gfe-bench-"));
  chmodSync(dataDir, 0o711);
  const { DATABASE_URL: _unused, ...env } = process.env as Record<string, string>;
  const hub: Child = await startChild([...(options.hubArguments ?? []), MAIN, "hub", "--no-build"], {
    env: {
      ...env,
      GFE_DATA_DIR: join(dataDir, "hub"),
      GFE_LOG_LEVEL: "error",
      GFE_SIGNUP_CREDITS: "10000000",
      GFE_LOGINS_MAX: "1000",
      GFE_DRAIN_MS: "1000",
      GFE_RATE_REQUESTS_PER_MINUTE: "0",
      GFE_RATE_TOKENS_PER_MINUTE: "0",
      GFE_CANARY_INTERVAL: "0",
      ...options.env,
    },
    ready: answers("/readyz"),
  });
  const url = `http://127.0.0.1:${hub.port}`;
  const accounts = options.sharing ?? (await createAccounts(url));
  const agents = new Set<ChildProcess>();
  let joined = 0;
  return {
    port: hub.port,
    pid: hub.pid,
    url,
    key: accounts.key,
    newAgentToken: accounts.newAgentToken,
    agentToken: accounts.agentToken,
    operatorCookie: accounts.operatorCookie,
    newProvider: accounts.newProvider,
    async joinAgent(args, program = null, agentToken = accounts.agentToken) {
      const child = spawn(
        program ?? process.execPath,
        [
          ...(program ? [] : [...nodeArguments, ...(options.agentArguments ?? []), MAIN]),
          ...["up", "--hub", url, "--no-detect", "--json"],
          ...["--config-dir", join(dataDir, `agent-${joined++}`)],
          ...args,
        ],
        { env: { ...env, GFE_AGENT_TOKEN: agentToken }, stdio: ["ignore", "pipe", "inherit"] },
      );
      agents.add(child);
      child.once("exit", () => agents.delete(child));
      const nodeId = await joinedAs(child);
      const gone = new Promise((resolve) => child.once("exit", resolve));
      return { nodeId, pid: child.pid!, kill: () => child.kill("SIGKILL"), ended: gone };
    },
    cpu() {
      const sum = (pids: number[]) => pids.reduce((total, pid) => total + cpuMs(pid), 0);
      return {
        hub: cpuMs(hub.pid),
        agents: sum([...agents].map(({ pid }) => pid!)),
        database: sum(descendants(hub.pid)),
      };
    },
    async stop() {
      await Promise.all([...agents].map(ended));
      await hub.stop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

type Accounts = Pick<BenchHub, "key" | "agentToken" | "newAgentToken" | "newProvider" | "operatorCookie">;

async function createAccounts(url: string): Promise<Accounts> {
  const provider = await account(url, "provider");
  const consumer = await account(url, "consumer");
  const tokenOf = async (cookie: string) =>
    ((await post(url, cookie, "/api/v1/agent-tokens", { label: "bench" })) as { secret: string }).secret;
  const token = await tokenOf(provider);
  let providers = 0;
  let other = { cookie: provider, tokens: TOKENS_PER_ACCOUNT };
  const newAgentToken = async () => {
    if (other.tokens++ >= TOKENS_PER_ACCOUNT)
      other = { cookie: await account(url, `provider-${++providers}`), tokens: 1 };
    return tokenOf(other.cookie);
  };
  const newProvider = async () => {
    const cookie = await account(url, `provider-${++providers}`);
    return { cookie, agentToken: await tokenOf(cookie) };
  };
  const { secret: key } = (await post(url, consumer, "/api/v1/keys", { label: "bench" })) as {
    secret: string;
  };
  return { key, agentToken: token, newAgentToken, newProvider, operatorCookie: provider };
}

/** The id that an agent tells once its models are on offer. Its later events are read and dropped. */
function joinedAs(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`the agent ended with ${code}`)));
    createInterface({ input: child.stdout! }).on("line", (line) => {
      const event = JSON.parse(line) as { type: string; nodeId?: string };
      if (event.type === "joined") resolve(event.nodeId!);
    });
  });
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once("exit", () => resolve());
    child.kill("SIGTERM");
  });
}

async function account(url: string, name: string): Promise<string> {
  const response = await fetch(`${url}/api/auth/sign-up/email`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: url },
    body: JSON.stringify({ name, email: `${name}@bench.invalid`, password: "bench bench bench" }),
  });
  if (!response.ok) throw new Error(`sign-up answered ${response.status}`);
  return response.headers
    .getSetCookie()
    .map((line) => line.split(";")[0])
    .join("; ");
}

async function post(url: string, cookie: string, path: string, body: object): Promise<unknown> {
  const response = await fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json", origin: url, cookie },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return response.json();
}
