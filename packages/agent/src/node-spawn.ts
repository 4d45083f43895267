/** Programs that run beside the agent, on Node. */
import { type ChildProcessWithoutNullStreams, execFile, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import type { Child, Host } from "./host.ts";

/** What a shell answers for a program that is not there, or may not be run. */
const NOT_FOUND = 127;
const isWindows = process.platform === "win32";

/** Those that run now: an agent that ends takes them along, however it ends of itself. */
const running = new Set<ChildProcessWithoutNullStreams>();
let watching = false;

export const spawnProgram: Host["spawn"] = (command, args, { env = {}, directory } = {}) => {
  const child = spawn(command, [...args], {
    env: { ...env },
    stdio: "pipe",
    windowsHide: true,
    detached: !isWindows, // a process group of its own
    ...(directory === undefined ? {} : { cwd: directory }),
  });
  if (!watching) {
    watching = true;
    process.once("exit", () => {
      for (const one of running) killGroup(one, "SIGKILL");
    });
  }
  running.add(child);
  const ended = new Promise<Awaited<Child["ended"]>>((resolve) => {
    child.once("error", () => {
      if (child.pid !== undefined) return; // a signal that could not be sent
      running.delete(child);
      resolve({ exitCode: NOT_FOUND, signal: null });
    });
    child.once("exit", (exitCode, signal) => {
      // What is left of its group would outlive it.
      killGroup(child, "SIGKILL");
      running.delete(child);
      resolve({ exitCode, signal });
    });
  });
  child.stdin.on("error", () => {}); // it has ended: `ended` tells
  return {
    pid: child.pid,
    stdout: chunksOf(child.stdout),
    stderr: chunksOf(child.stderr),
    write(bytes) {
      if (child.stdin.destroyed || child.stdin.write(bytes)) return Promise.resolve();
      return new Promise((resolve) => {
        const done = () => {
          child.stdin.off("drain", done).off("close", done);
          resolve();
        };
        child.stdin.on("drain", done).on("close", done);
      });
    },
    closeInput: () => child.stdin.end(),
    kill: (signal = "SIGKILL") => killGroup(child, signal),
    ended,
  };
};

/** A broken pipe is an end. */
async function* chunksOf(stream: Readable): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch {}
}

function killGroup({ pid }: ChildProcessWithoutNullStreams, signal: "SIGTERM" | "SIGKILL"): void {
  if (pid === undefined) return;
  if (isWindows) return void execFile("taskkill", ["/pid", String(pid), "/t", "/f"], () => {});
  try {
    process.kill(-pid, signal);
  } catch {
    // nobody is left in it
  }
}
