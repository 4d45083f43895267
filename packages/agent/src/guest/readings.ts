/** What a machine says of itself and of its owner. Null where nothing tells it: an absent tool is no error. */
import type { GpuReading } from "../control/status.ts";
import type { Host } from "../host.ts";

export type { GpuReading };

/** A program that is on a GPU. */
export interface GpuProgram {
  name: string;
  /** Null where the driver does not tell it of one program. */
  memory_bytes: number | null;
  load_percent: number | null;
  /** It draws, as a game or a desktop does, and does not only compute. */
  draws: boolean;
}

export interface Readings {
  gpus: GpuReading[];
  /** Null where no tool tells of programs. */
  programs: GpuProgram[] | null;
  /** Milliseconds since a key was pressed or the mouse was moved. */
  idle_ms: number | null;
  on_battery: boolean | null;
  /** The network costs by what is sent. */
  metered: boolean | null;
}

export const NOTHING_READ: Readings = {
  gpus: [],
  programs: null,
  idle_ms: null,
  on_battery: null,
  metered: null,
};

export type ReadHost = Pick<Host, "run" | "files">;

/** One source of readings. It says null where its tool is not there or says nothing; it never rejects. */
export interface Reader {
  name: string;
  read(host: ReadHost): Promise<Partial<Readings> | null>;
}

const READ_TIMEOUT_MS = 3_000;

/** What a tool prints; null where it is absent, fails or hangs. */
export async function printed(host: ReadHost, command: string, ...args: string[]): Promise<string | null> {
  const result = await host.run(command, args, { timeoutMs: READ_TIMEOUT_MS });
  return result.type === "ran" && result.exitCode === 0 ? result.stdout : null;
}

/** "N/A" and the like are null. */
export function numberIn(text: string | undefined): number | null {
  const number = Number.parseFloat(text ?? "");
  return Number.isFinite(number) ? number : null;
}

/** What the readers say together: GPUs of all, else what the first says that knows. */
export function together(parts: readonly (Partial<Readings> | null)[]): Readings {
  const all: Readings = { ...NOTHING_READ, gpus: [] };
  for (const part of parts) {
    if (!part) continue;
    all.gpus.push(...(part.gpus ?? []));
    if (part.programs) all.programs = [...(all.programs ?? []), ...part.programs];
    all.idle_ms ??= part.idle_ms ?? null;
    all.on_battery ??= part.on_battery ?? null;
    all.metered ??= part.metered ?? null;
  }
  return all;
}
