/** An agent as its owner runs it: a program in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

const JOIN_MS = 20_000;

export interface AgentEvent {
  type: string;
  [name: string]: unknown;
}

export interface AgentProcess {
  pid: number;
  nodeId: string;
  /** All that it told, in order. */
  events: readonly AgentEvent[];
  /** The next event of a type that comes after those told so far, or after `from`. */
  told(type: string, from?: number): Promise<AgentEvent>;
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  kill(signal: NodeJS.Signals): void;
}

/** Runs `program args… up …` and resolves when it has joined. */
export async function startAgentProcess(
  [program, ...args]: readonly [string, ...string[]],
  options: {
    hubUrl: string;
    token: string;
    home: string;
    engines: readonly string[];
    more?: readonly string[];
    env?: Readonly<Record<string, string>>;
  },
): Promise<AgentProcess> {
  const child = spawn(
    program,
    [
      ...[...args, "up", "--hub", options.hubUrl, "--no-detect", "--json", "--config-dir", options.home],
      ...options.engines.flatMap((url) => ["--engine", url]),
      ...(options.more ?? []),
    ],
    {
      env: { PATH: process.env.PATH, HOME: options.home, GFE_AGENT_TOKEN: options.token, ...options.env },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const events: AgentEvent[] = [];
  const listeners = new Set<() => void>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    events.push(JSON.parse(line) as AgentEvent);
    for (const look of [...listeners]) look();
  });
  const ended = endOf(child);
  const told = (type: string, from = events.length): Promise<AgentEvent> =>
    new Promise((resolve, reject) => {
      const look = () => {
        const found = events.slice(from).find((event) => event.type === type);
        if (!found) return;
        listeners.delete(look);
        resolve(found);
      };
      listeners.add(look);
      void ended.then(({ code, signal }) =>
        reject(new Error(`the agent ended with ${signal ?? code} before "${type}"`)),
      );
      look();
    });
  const late = setTimeout(() => child.kill("SIGKILL"), JOIN_MS);
  const joined = await told("joined", 0).finally(() => clearTimeout(late));
  return {
    pid: child.pid!,
    nodeId: String(joined.nodeId),
    events,
    told,
    ended,
    kill: (signal) => void child.kill(signal),
  };
}

const endOf = (child: ChildProcess): AgentProcess["ended"] =>
  new Promise((resolve) => {
    child.once("error", () => resolve({ code: 127, signal: null }));
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
