/** The agent on Node. */
import { execFile } from "node:child_process";
import { homedir, hostname } from "node:os";
import { join } from "node:path";
import { BUILD } from "./build.ts";
import type { Files, Host, Log, RunResult } from "./host.ts";
import { nodeFiles } from "./node-files.ts";
import { nodeHelper } from "./node-helper.ts";
import { serveLocal } from "./node-local.ts";
import { createNodeHttp, dialNodeSocket } from "./node-network.ts";
import { spawnProgram } from "./node-spawn.ts";
import { createNodeTerminal } from "./node-terminal.ts";

const RUN_OUTPUT_BYTES_MAX = 1024 * 1024;

export interface NodeHostOptions {
  env?: Readonly<Record<string, string | undefined>>;
  configDir?: string;
  stateDir?: string;
  files?: Files;
  log?: Log;
  /** Where a packed program keeps its helpers; the files beside this one unless given. */
  helper?: Host["helper"];
}

const silent: Log = { info() {}, warn() {} };

/** A host that keeps its files where the XDG base directories say, unless told otherwise. Logs nothing by default. */
export function createNodeHost(options: NodeHostOptions = {}): Host {
  const env = options.env ?? process.env;
  const base = (variable: string, ...fallback: string[]) =>
    join(env[variable] || join(env.HOME || homedir(), ...fallback), "gfe");
  return {
    platform: process.platform,
    // The sources need a Node that strips types; the package is plain JavaScript.
    runtime: {
      name: "Node",
      version: process.versions.node,
      least: BUILD.kind === "npm" ? "20.0.0" : "24.0.0",
    },
    hostName: hostname(),
    env,
    directories: {
      config: options.configDir ?? base("XDG_CONFIG_HOME", ".config"),
      state: options.stateDir ?? base("XDG_STATE_HOME", ".local", "state"),
    },
    files: options.files ?? nodeFiles,
    log: options.log ?? silent,
    http: createNodeHttp(),
    dial: dialNodeSocket,
    run: runProgram,
    serve: serveLocal,
    terminal: createNodeTerminal(env),
    processId: process.pid,
    spawn: spawnProgram,
    helper: options.helper ?? nodeHelper,
    // Evenly, whatever becomes of the wall clock: a jump of it is no silence of the hub.
    nowMs: () => performance.timeOrigin + performance.now(),
    after(ms, callback) {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
    soon: (callback) => void setImmediate(callback),
    random: Math.random,
  };
}

function runProgram(
  command: string,
  args: readonly string[],
  { timeoutMs }: { timeoutMs: number },
): Promise<RunResult> {
  return new Promise((resolve) => {
    execFile(
      command,
      [...args],
      { timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: RUN_OUTPUT_BYTES_MAX, windowsHide: true },
      (error, stdout) => {
        if (!error) return resolve({ type: "ran", exitCode: 0, stdout });
        if (error.killed) return resolve({ type: "timeout" });
        if (typeof error.code === "number") return resolve({ type: "ran", exitCode: error.code, stdout });
        resolve({ type: "absent" });
      },
    );
  });
}
