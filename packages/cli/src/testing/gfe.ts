/** `gfe` as its users run it: a process of its own, with an environment of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const BIN = fileURLToPath(new URL("../../bin/gfe.js", import.meta.url));

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

export class Gfe {
  readonly ended: Promise<Ended>;
  stdout = "";
  stderr = "";
  readonly #child: ChildProcess;
  readonly #listeners = new Set<() => void>();

  /** Nothing of this process's environment but PATH goes in: what a test says is all there is. */
  constructor(args: string[], env: Record<string, string> = {}, input = "") {
    this.#child = spawn(process.execPath, [BIN, ...args], {
      env: { PATH: process.env.PATH, HOME: "/nonexistent", ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child.stdin!.end(input);
    for (const name of ["stdout", "stderr"] as const) {
      this.#child[name]!.setEncoding("utf8").on("data", (chunk: string) => {
        this[name] += chunk;
        for (const look of this.#listeners) look();
      });
    }
    this.ended = new Promise((resolve) =>
      this.#child.once("close", (code) => {
        resolve({ code, stdout: this.stdout, stderr: this.stderr });
      }),
    );
  }

  /** Resolves with the first match in what it prints; rejects where it ends without. */
  printed(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(this.stdout);
        if (!match) return;
        this.#listeners.delete(look);
        resolve(match);
      };
      this.#listeners.add(look);
      void this.ended.then(({ code, stdout, stderr }) =>
        reject(new Error(`it ended with ${code} and never printed ${pattern}:\n${stdout}\n${stderr}`)),
      );
      look();
    });
  }

  /** As Ctrl-C does. */
  stop(): Promise<Ended> {
    this.#child.kill("SIGINT");
    return this.ended;
  }
}

export const gfe = (args: string[], env?: Record<string, string>, input?: string): Promise<Ended> =>
  new Gfe(args, env, input).ended;
