/** A hub as its operator runs it: a process of its own, with its own database, that a test may kill. */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const DIRECT = [process.execPath, `${ROOT}packages/cli/src/main.ts`, "hub", "--no-build"] as const;
/** As the README's command starts it, but for building the web page. */
export const BY_NPM = ["npm", "run", "gfe", "--", "hub", "--no-build"] as const;

const POLL_MS = 20;

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** Where hubs of one test live. `clean` kills whatever still runs there, then deletes it. */
export interface HubHome {
  dataDir: string;
  port: number;
  url: string;
  /** Resolves when it listens; rejects with what it said where it ends instead. */
  start(env?: Record<string, string>): Promise<HubProcess>;
  /** Process id of the database server, from its own pid file; null where there is none. */
  databasePid(): number | null;
  /** Processes, zombies aside, whose command line or environment names the data directory. */
  processes(): number[];
  /** As when the machine loses its power; resolves when none of them is left. */
  killAll(): Promise<void>;
  clean(): Promise<void>;
}

export class HubProcess {
  readonly ended: Promise<Exit>;
  stdout = "";
  stderr = "";
  readonly #child: ChildProcess;
  readonly #listeners = new Set<() => void>();

  constructor(env: Record<string, string>, [program, ...args]: readonly [string, ...string[]] = DIRECT) {
    this.#child = spawn(program, args, {
      cwd: ROOT,
      env: { PATH: process.env.PATH, HOME: env.GFE_DATA_DIR, GFE_CANARY_INTERVAL: "0", ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const name of ["stdout", "stderr"] as const) {
      this.#child[name]!.setEncoding("utf8").on("data", (chunk: string) => {
        this[name] += chunk;
        for (const look of this.#listeners) look();
      });
    }
    this.ended = new Promise((resolve) =>
      this.#child.once("exit", (code, signal) => resolve({ code, signal })),
    );
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Resolves with what it prints first that fits; rejects where it ends without. */
  printed(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(this.stdout);
        if (!match) return;
        this.#listeners.delete(look);
        resolve(match);
      };
      this.#listeners.add(look);
      void this.ended.then(({ code, signal }) =>
        reject(new Error(`the hub ended with ${signal ?? code}:\n${this.stdout}\n${this.stderr}`)),
      );
      look();
    });
  }

  async kill(signal: NodeJS.Signals): Promise<Exit> {
    this.#child.kill(signal);
    return this.ended;
  }
}

/** In a directory of its own, or in `where`. */
export async function createHubHome(where: string = tmpdir()): Promise<HubHome> {
  const home = mkdtempSync(join(where, "gfe-kill-"));
  chmodSync(home, 0o711); // PostgreSQL runs as another user where we are root
  const dataDir = join(home, "hub");
  const port = await freePort();
  const hubs: HubProcess[] = [];

  const databasePid = () => {
    const path = join(dataDir, "postgres", "postmaster.pid");
    const pid = existsSync(path) ? Number(readFileSync(path, "utf8").split("\n")[0]) : 0;
    return pid > 1 ? pid : null;
  };
  const processes = () =>
    readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
      .filter((name) => names(name, dataDir))
      .map(Number);
  async function killAll(): Promise<void> {
    for (let left = processes(); left.length > 0; left = processes()) {
      for (const pid of left) tryKill(pid);
      await sleep(POLL_MS);
    }
  }
  return {
    dataDir,
    port,
    url: `http://127.0.0.1:${port}`,
    databasePid,
    processes,
    killAll,
    async start(env = {}) {
      const hub = new HubProcess({
        PORT: String(port),
        GFE_DATA_DIR: dataDir,
        GFE_LOG_LEVEL: "warn",
        GFE_LOGINS_MAX: "1000",
        ...env,
      });
      hubs.push(hub);
      await hub.printed(/GPU For Everyone is running/);
      return hub;
    },
    async clean() {
      await Promise.all(hubs.map((hub) => hub.kill("SIGKILL")));
      await killAll();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

function names(pid: string, dataDir: string): boolean {
  return ["cmdline", "environ"].some((file) => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, "utf8").includes(dataDir);
    } catch {
      return false; // it ended, or is not ours
    }
  });
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it ended by itself
  }
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
