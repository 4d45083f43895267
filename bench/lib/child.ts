/** Programs under measure, each in a process of its own, as it would run. */
import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";

export interface Child {
  port: number;
  pid: number;
  stop(): Promise<void>;
}

const START_TIMEOUT_MS = 60_000;
/** For a look inside: BENCH_NODE_ARGS="--cpu-prof --cpu-prof-dir=/tmp/profiles". */
export const nodeArguments: readonly string[] = process.env.BENCH_NODE_ARGS?.split(" ") ?? [];

/** Starts `node args…`, or another program, and resolves once `ready` answers at its port. */
export async function startChild(
  args: string[],
  options: {
    port?: number;
    env?: Record<string, string>;
    ready: (port: number) => Promise<boolean>;
    quiet?: boolean;
    program?: string;
  },
): Promise<Child> {
  const port = options.port ?? (await freePort());
  const env = { ...process.env, PORT: String(port), ...options.env };
  const child = spawn(
    options.program ?? process.execPath,
    [...(options.program ? [] : nodeArguments), ...args].map((arg) => arg.replace("{port}", String(port))),
    { env, stdio: ["ignore", "ignore", options.quiet ? "ignore" : "inherit"] },
  );
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await options.ready(port).catch(() => false))) {
    if (child.exitCode !== null) throw new Error(`${args[0]} ended with ${child.exitCode}`);
    if (Date.now() > deadline) throw new Error(`${args[0]} did not answer`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { port, pid: child.pid!, stop: () => stop(child) };
}

function stop(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null) return resolve();
    const force = setTimeout(() => child.kill("SIGKILL"), 10_000);
    child.once("exit", () => {
      clearTimeout(force);
      resolve();
    });
    child.kill("SIGTERM");
  });
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

/** Whether GET answers with 200. */
export const answers =
  (path: string) =>
  async (port: number): Promise<boolean> =>
    (await fetch(`http://127.0.0.1:${port}${path}`)).ok;
