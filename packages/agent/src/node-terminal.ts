/** The terminal on Node. */
import { readFileSync } from "node:fs";
import type { Terminal } from "./host.ts";

/** A process group that nobody can stop goes on: then the terminal is entered again after this while. */
const STOPPED_MS = 100;

/** The terminal of standard input and output; null where either is something else, or the terminal can do nothing. */
export function createNodeTerminal(env: Readonly<Record<string, string | undefined>>): Terminal | null {
  // Standard input is opened by the first look at it: not where nobody looks at the output.
  const { stdout } = process;
  if (!stdout.isTTY || !process.stdin.isTTY || env.TERM === "dumb" || inBackground()) return null;
  const { stdin } = process;
  const listeners = new Set<(typed: string) => void>();
  const handovers = new Set<{ leave(): void; enter(): void }>();
  let away = false;

  const onData = (data: string) => {
    for (const listener of [...listeners]) listener(data);
  };
  const leave = () => {
    if (away) return;
    away = true;
    for (const { leave } of handovers) leave();
    if (listeners.size > 0) stdin.setRawMode(false);
  };
  const enter = () => {
    if (!away) return;
    away = false;
    if (listeners.size > 0) stdin.setRawMode(true);
    for (const { enter } of handovers) enter();
  };
  /** The shell has had the terminal meanwhile, however this program was stopped. */
  const onContinue = () => {
    leave();
    enter();
  };
  const suspend = () => {
    leave();
    process.removeListener("SIGTSTP", suspend);
    process.kill(0, "SIGTSTP"); // the shell waits for the whole group
    setTimeout(() => {
      if (handovers.size > 0) process.on("SIGTSTP", suspend);
      enter();
    }, STOPPED_MS);
  };

  return {
    get columns() {
      return stdout.columns || 80;
    },
    get rows() {
      return stdout.rows || 24;
    },
    colour: !env.NO_COLOR,
    write: (text) => void stdout.write(text),
    onKey(callback) {
      if (listeners.size === 0) {
        stdin.setEncoding("utf8").setRawMode(true).on("data", onData).resume();
      }
      listeners.add(callback);
      return () => {
        if (!listeners.delete(callback) || listeners.size > 0) return;
        stdin.removeListener("data", onData).setRawMode(false).pause();
      };
    },
    onResize(callback) {
      stdout.on("resize", callback);
      return () => void stdout.removeListener("resize", callback);
    },
    onHandOver(callbacks) {
      if (handovers.size === 0) {
        // Before the words of a crash: on the panel's screen nobody would read them.
        process.once("exit", leave).once("uncaughtExceptionMonitor", leave);
        process.on("SIGTSTP", suspend).on("SIGCONT", onContinue);
      }
      handovers.add(callbacks);
      return () => {
        if (!handovers.delete(callbacks) || handovers.size > 0) return;
        process.removeListener("exit", leave).removeListener("uncaughtExceptionMonitor", leave);
        process.removeListener("SIGTSTP", suspend).removeListener("SIGCONT", onContinue);
      };
    },
    suspend,
  };
}

/** A job in a shell's background is stopped when it reads from the terminal or changes its mode. */
function inBackground(): boolean {
  try {
    const afterName = readFileSync("/proc/self/stat", "utf8").split(") ").at(-1)!.split(" ");
    const [group, foreground] = [afterName[2], afterName[5]];
    return group !== foreground;
  } catch {
    return false; // no Linux
  }
}
