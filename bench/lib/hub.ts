/** Our own side of a bench: a hub with its embedded database, an agent, and a consumer with credit enough. */
import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { answers, type Child, nodeArguments, startChild } from "./child.ts";

const MAIN = fileURLToPath(new URL("../../packages/cli/src/main.ts", import.meta.url));

export interface BenchHub {
  port: number;
  url: string;
  /** The consumer's key. */
  key: string;
  /** What the operator's session may ask. */
  operatorCookie: string;
  /** Joins a node; resolves when its models are on offer. */
  joinAgent(args: string[]): Promise<void>;
  stop(): Promise<void>;
}

export async function startBenchHub(): Promise<BenchHub> {
  const dataDir = mkdtempSync(join(tmpdir(), "gfe-bench-"));
  chmodSync(dataDir, 0o711);
  const { DATABASE_URL: _unused, ...env } = process.env as Record<string, string>;
  const hub: Child = await startChild([MAIN, "hub", "--no-build"], {
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
    },
    ready: answers("/readyz"),
  });
  const url = `http://127.0.0.1:${hub.port}`;
  const provider = await account(url, "provider");
  const consumer = await account(url, "consumer");
  const { secret: token } = (await post(url, provider, "/api/v1/agent-tokens", { label: "bench" })) as {
    secret: string;
  };
  const { secret: key } = (await post(url, consumer, "/api/v1/keys", { label: "bench" })) as {
    secret: string;
  };
  const agents: (() => Promise<void>)[] = [];
  return {
    port: hub.port,
    url,
    key,
    operatorCookie: provider,
    async joinAgent(args) {
      const child = spawn(
        process.execPath,
        [
          ...nodeArguments,
          MAIN,
          "up",
          "--hub",
          url,
          "--no-detect",
          "--config-dir",
          join(dataDir, `agent-${agents.length}`),
          ...args,
        ],
        {
          env: { ...env, GFE_AGENT_TOKEN: token },
          stdio: ["ignore", "ignore", "inherit"],
        },
      );
      agents.push(
        () =>
          new Promise((resolve) => {
            child.once("exit", () => resolve());
            child.kill("SIGTERM");
          }),
      );
      for (let tries = 0; ; tries++) {
        const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: unknown[] };
        if (data.length > 0) return;
        if (tries > 600) throw new Error("the agent did not join");
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    async stop() {
      for (const stop of agents) await stop();
      await hub.stop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
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
