/** What the engine that the agent starts runs in, and what that holds back. docs/sandbox.md tells it to providers. */
import type { Child, Helper } from "../host.ts";

export type SandboxKind = "bwrap" | "podman" | "docker" | "none";
export const SANDBOX_KINDS = ["bwrap", "podman", "docker", "none"] as const satisfies SandboxKind[];

export interface SandboxSettings {
  /** Bubblewrap unless given, on Linux; nothing is started without a sandbox unless it is `none`. */
  kind?: SandboxKind;
  /** The containers' runtime, such as `runsc` for gVisor. */
  runtime?: string;
  /** Most memory of the engine with all it starts; three quarters of the machine's unless given. */
  memoryBytes?: number;
  /** Most processes and threads of the engine. */
  processes?: number;
  /** Room in /tmp, and as much in /dev/shm; both are memory. */
  scratchBytes?: number;
  /** For containers: an image that is there, or a folder with a root file system (Podman). */
  image?: string;
}

/** What is in force; each line in words for people. */
export interface SandboxStatus {
  kind: SandboxKind;
  /** `bubblewrap 0.8.0`, `podman 4.3.1 with runsc`. */
  program: string;
  network: string;
  files: string;
  memory: string;
  processes: string;
  seccomp: string;
  gpu: string;
  /** What is missing, and what would bring it. */
  problems: SandboxProblem[];
}

export interface SandboxProblem {
  what: string;
  cure: string;
}

export interface ToConfine {
  /** Its command and arguments are run; what it reads is where it is outside. */
  helper: Helper;
  /** Behind the helper's own. */
  args: readonly string[];
  /** Beyond the few that every engine gets. */
  env: Readonly<Record<string, string>>;
  /** Files and folders, read only: where they are, and where the engine sees them. */
  files: readonly { from: string; to: string }[];
  gpu: boolean;
  /** Among the files of the image, where the sandbox has one; this machine's system otherwise. */
  inImage?: boolean;
}

export interface Sandbox {
  readonly status: SandboxStatus;
  /** The engine ends when its input does, when it is killed, and with the agent. */
  start(what: ToConfine): Promise<Child>;
}

/** The sandbox that was asked for, or any, can't be had here. */
export class SandboxUnavailable extends Error {
  readonly what: string;
  readonly cure: string;
  constructor(what: string, cure: string) {
    super(`${what}. ${cure}`);
    this.name = "SandboxUnavailable";
    this.what = what;
    this.cure = cure;
  }
}

export const SANDBOX_LIMITS = {
  processes: 512,
  scratchBytes: 256 * 1024 * 1024,
  /** Of the machine's memory, unless the provider says how much. */
  memoryShare: 0.75,
  memoryBytesMin: 256 * 1024 * 1024,
  /** A look whether a sandbox works starts a program in it. */
  trialMs: 5_000,
} as const;
