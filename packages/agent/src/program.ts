/** This program as it lies on the machine: all that updates and services need of it. Each host has its own. */
import type { BuildFacts } from "./build.ts";

export interface Program {
  readonly kind: BuildFacts["kind"];
  /** Starts it, from an absolute path on: one word, or an interpreter and a script. */
  readonly command: readonly [string, ...string[]];
  /** What it was given behind that: `up --hub …`. */
  readonly args: readonly string[];
  /** Which of a release's files it is. Null where no release has it. */
  readonly target: { os: "linux" | "windows" | "macos"; arch: "x64" | "arm64"; kind: "slim" | "full" } | null;
  /** Puts a copy of `file` in the program's place, in one step where the system has one; what lay there is kept at `previous`. */
  replace(file: string, previous: string): Promise<void>;
  /**
   * Goes on as the program that lies there now, with the same arguments. Where the system can't exchange a process, the other runs
   * as a child, and this resolves with its exit status.
   */
  restart(): Promise<number>;
}

/** Where what was replaced is kept. */
export const previousOf = (program: Program): string => `${program.command[0]}.previous`;
