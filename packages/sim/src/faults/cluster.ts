/** Two hubs on one PostgreSQL and one Redis, and agents: every one a process that may be killed and started again. */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "@gfe/hub";
import { generateKeyPair } from "@gfe/protocol";
import { startRedis } from "../../../hub/src/testing/redis.ts";
import { freePort, HubProcess } from "../hub-process.ts";
import type { AgentSettings } from "./agent-process.ts";

const AGENT = fileURLToPath(new URL("./agent-process.ts", import.meta.url));
/** As an init system does it: one that could not start is tried again. */
const START_TRIES_MAX = 40;
const START_AGAIN_MS = 250;

/** Something that runs, is killed without warning and comes back as it was. */
export interface Victim {
  readonly up: boolean;
  start(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** Of all that runs of it. */
  pids(): number[];
}

/** SIGSTOP, and SIGCONT after a while. */
export async function freeze(victim: Victim, ms: number): Promise<void> {
  const pids = victim.pids();
  for (const pid of pids) signal(pid, "SIGSTOP");
  await sleep(ms);
  for (const pid of pids) signal(pid, "SIGCONT");
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // it has ended
  }
}

/** Its children; none where it has ended. */
function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
    return text.trim().split(" ").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

const some = (pid: number | undefined): number[] => (pid === undefined ? [] : [pid]);

export interface ClusterHub extends Victim {
  readonly url: string;
  /** What its processes wrote to standard error, one behind the other. */
  readonly log: string;
}

export interface Cluster {
  readonly hubs: readonly ClusterHub[];
  readonly agents: Victim[];
  readonly postgres: Victim & { readonly url: string };
  readonly redis: Victim;
  addAgent(settings: Omit<AgentSettings, "configDir">): Promise<void>;
  /** Kills what runs and deletes what it wrote. */
  end(): Promise<void>;
}

export interface ClusterOptions {
  hubs: number;
  /** For each hub, over what the cluster sets. */
  env?: Record<string, string>;
}

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const home = mkdtempSync(join(tmpdir(), "gfe-cl-"));
  chmodSync(home, 0o711); // PostgreSQL runs as another user where we are root
  const ends: (() => Promise<void>)[] = [];
  const end = async () => {
    for (const step of ends.splice(0).reverse()) await step();
    rmSync(home, { recursive: true, force: true });
  };
  try {
    const postgres = createPostgres(join(home, "pg"));
    ends.push(() => postgres.stop());
    const redis = await startRedis();
    ends.push(() => redis.kill());
    let redisUp = true;
    await postgres.start();
    const env = {
      DATABASE_URL: postgres.url,
      REDIS_URL: redis.url,
      GFE_SECRET: "s".repeat(40),
      GFE_HUB_KEY: JSON.stringify(await generateKeyPair()),
      GFE_LOG_LEVEL: "warn",
      GFE_LOGINS_MAX: "1000",
      ...options.env,
    };
    const hubs: ClusterHub[] = [];
    for (let at = 0; at < options.hubs; at++) {
      const hub = createHub(join(home, `hub-${at}`), await freePort(), env);
      ends.push(() => hub.kill());
      await hub.start();
      hubs.push(hub);
    }
    const agents: Victim[] = [];
    return {
      hubs,
      agents,
      postgres,
      redis: {
        get up() {
          return redisUp;
        },
        pids: () => some(redis.pid()),
        async start() {
          await redis.start();
          redisUp = true;
        },
        async kill() {
          redisUp = false;
          await redis.kill();
        },
      },
      async addAgent(settings) {
        const agent = createAgent({ ...settings, configDir: join(home, `agent-${agents.length}`) });
        agents.push(agent);
        ends.push(() => agent.kill());
        await agent.start();
      },
      end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

function createPostgres(dataDir: string): Victim & { readonly url: string; stop(): Promise<void> } {
  let running: EmbeddedPostgres | null = null;
  let url = "";
  const postgres = {
    get url() {
      return url;
    },
    get up() {
      return running !== null;
    },
    pids() {
      const pid = running?.pid();
      return pid === undefined ? [] : [pid, ...childrenOf(pid)];
    },
    async start() {
      running = await startEmbeddedPostgres({ dataDir, log: () => {}, maxConnections: 100 });
      url = running.url;
    },
    async kill() {
      const killed = running;
      running = null;
      if (!killed) return;
      process.kill(killed.pid()!, "SIGKILL");
      killed.kill(); // so that it is not started again of itself
    },
    async stop() {
      await running?.stop();
    },
  };
  return postgres;
}

function createHub(dataDir: string, port: number, env: Record<string, string>): ClusterHub {
  let running: HubProcess | null = null;
  let starting: HubProcess | null = null;
  let log = "";
  return {
    url: `http://127.0.0.1:${port}`,
    get up() {
      return running !== null;
    },
    get log() {
      return log + (running?.stdout ?? "") + (running?.stderr ?? "");
    },
    pids: () => some(running?.pid),
    async start() {
      for (let tries = 1; ; tries++) {
        starting = new HubProcess({ ...env, PORT: String(port), GFE_DATA_DIR: dataDir });
        try {
          await starting.printed(/GPU For Everyone is running/);
          running = starting;
          return;
        } catch (error) {
          if (tries >= START_TRIES_MAX) throw error;
          await sleep(START_AGAIN_MS);
        }
      }
    },
    async kill() {
      const killed = running ?? starting;
      running = null;
      await killed?.kill("SIGKILL");
      log += (killed?.stdout ?? "") + (killed?.stderr ?? "");
    },
  };
}

function createAgent(settings: AgentSettings): Victim {
  let child: ChildProcess | null = null;
  return {
    get up() {
      return child !== null;
    },
    pids: () => some(child?.pid),
    async start() {
      const started = spawn(process.execPath, [AGENT, JSON.stringify(settings)], {
        env: { PATH: process.env.PATH, HOME: settings.configDir },
        stdio: ["ignore", "pipe", "inherit"],
      });
      child = started;
      // It runs once it says anything: the hub it dials may be away.
      await new Promise<void>((resolve, reject) => {
        started.once("exit", (code, signal) => {
          if (child !== started)
            resolve(); // killed again already
          else reject(new Error(`the agent ended with ${signal ?? code}`));
        });
        createInterface({ input: started.stdout! }).on("line", () => resolve());
      });
    },
    async kill() {
      const killed = child;
      child = null;
      if (!killed || killed.exitCode !== null || killed.signalCode !== null) return;
      await new Promise((resolve) => {
        killed.once("exit", resolve);
        killed.kill("SIGKILL");
      });
    },
  };
}
