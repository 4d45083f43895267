/**
 * The machine's say in when its agent serves: reads the machine now and then, keeps to what its owner set (rules.ts), and
 * tells when that changes. A pause and the day's hours outlive the agent.
 */
import { z } from "zod";
import { type GuestSettings, type PauseReason, writeSettings } from "../control/settings.ts";
import type { Host } from "../host.ts";
import { PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE } from "../identity.ts";
import { amd, apple, nvidia } from "./gpu-readers.ts";
import { linuxBattery, linuxIdle, linuxMetered, macOwner, windowsMachine } from "./owner-readers.ts";
import { NOTHING_READ, type Reader, type Readings, together } from "./readings.ts";
import { dayName, type PauseCode, reasonsAgainst, remembered } from "./rules.ts";

export const GUEST_LIMITS = {
  /** Between two looks at the machine. */
  lookMs: 5_000,
  /** A reader whose tool is not there is asked again after so long. */
  absentMs: 10 * 60_000,
  /** A reader that takes long is asked so much less often: it costs the machine a part in so many at most. */
  restPerRead: 50,
  /** The day's hours are written down so often. */
  keepMs: 60_000,
} as const;

export const STATE_FILE = "guest.json";

export interface GuestState {
  serving: boolean;
  /** Attempts at once; null for what the engines can do. */
  slots: number | null;
  /** Empty while it serves. */
  reasons: PauseReason[];
  readings: Readings;
}

export interface Guest {
  state(): GuestState;
  settings(): GuestSettings;
  /** Keeps them, and is bound by them at once. */
  put(settings: GuestSettings): Promise<void>;
  /** Until a moment of the wall clock, or until `resume`. */
  pause(untilMs: number | null): void;
  resume(): void;
  close(): Promise<void>;
}

type GuestHost = Pick<Host, "files" | "directories" | "after" | "nowMs" | "run" | "platform" | "log">;

export interface GuestOptions {
  host: GuestHost;
  settings: GuestSettings;
  onChange(): void;
  /** Those of this platform unless given. */
  readers?: readonly Reader[];
  /** The wall clock, which the schedule goes by. */
  wallMs?: () => number;
}

const keptSchema = z.object({
  paused: z.object({ until_ms: z.number().nullable() }).nullable(),
  day: z.string(),
  served_ms: z.number().min(0),
});
type Kept = z.infer<typeof keptSchema>;

export function readersFor(platform: string): readonly Reader[] {
  switch (platform) {
    case "darwin":
      return [apple, macOwner];
    case "win32":
      return [nvidia, windowsMachine];
    default:
      return [nvidia, amd, linuxIdle, linuxBattery, linuxMetered];
  }
}

/** Looks at the machine once before it resolves, so that an agent does not begin where it must not. */
export async function startGuest(options: GuestOptions): Promise<Guest> {
  const { host, onChange, readers = readersFor(host.platform), wallMs = Date.now } = options;
  const { files, directories } = host;
  const path = files.join(directories.state, STATE_FILE);
  const sources = readers.map((reader) => ({ reader, last: null as Partial<Readings> | null, dueMs: 0 }));
  let settings = options.settings;
  let readings: Readings = NOTHING_READ;
  let reasons: PauseReason[] = [];
  let before: ReadonlyMap<PauseCode, number> = new Map();
  let kept = (await readKept()) ?? { paused: null, day: dayName(wallMs()), served_ms: 0 };
  let countedMs = host.nowMs();
  let keptAtMs = countedMs;
  let keeping: Promise<unknown> = Promise.resolve();
  let callOff = () => {};
  let closed = false;

  async function readKept(): Promise<Kept | null> {
    const bytes = await files.read(path).catch(() => null);
    if (bytes === null) return null;
    try {
      return keptSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
    } catch {
      return null; // it is a cache of ours: at worst the day's hours begin anew
    }
  }

  function keep(): void {
    keptAtMs = host.nowMs();
    const text = JSON.stringify(kept);
    keeping = keeping
      .then(() => files.makeDirectory(directories.state, PRIVATE_DIRECTORY_MODE))
      .then(() => files.write(path, text, { mode: PRIVATE_FILE_MODE }))
      .catch((error: unknown) =>
        host.log.warn({ error: String(error) }, "the guest's state could not be kept"),
      );
  }

  async function read(): Promise<void> {
    const nowMs = host.nowMs();
    await Promise.all(
      sources.map(async (source) => {
        if (nowMs < source.dueMs) return;
        source.last = await source.reader.read(host).catch(() => null);
        const tookMs = host.nowMs() - nowMs;
        const restMs = source.last ? tookMs * GUEST_LIMITS.restPerRead : GUEST_LIMITS.absentMs;
        source.dueMs = nowMs + restMs;
      }),
    );
    readings = together(sources.map(({ last }) => last));
  }

  /** Time that was open for work counts towards the day's hours. */
  function count(): void {
    const nowMs = host.nowMs();
    const today = dayName(wallMs());
    if (today !== kept.day) kept = { ...kept, day: today, served_ms: 0 };
    if (reasons.length === 0) kept = { ...kept, served_ms: kept.served_ms + (nowMs - countedMs) };
    countedMs = nowMs;
    if (settings.limits.daily_hours != null && nowMs - keptAtMs >= GUEST_LIMITS.keepMs) keep();
  }

  function decide(): void {
    count();
    const wall = wallMs();
    const { paused } = kept;
    if (paused && paused.until_ms !== null && wall >= paused.until_ms) {
      kept = { ...kept, paused: null };
      keep();
    }
    const situation = {
      ...{ settings, readings, before, wallMs: wall, servedTodayMs: kept.served_ms },
      ...(kept.paused ? { pausedUntilMs: kept.paused.until_ms } : {}),
    };
    const was = JSON.stringify(reasons.map(({ code }) => code));
    reasons = reasonsAgainst(situation);
    before = remembered(situation, reasons);
    if (JSON.stringify(reasons.map(({ code }) => code)) !== was) onChange();
  }

  function lookLater(): void {
    if (closed) return;
    callOff = host.after(delayMs(), () => {
      void read().then(decide).finally(lookLater);
    });
  }

  /** What ends at a known moment ends then, and not at the next look. */
  function delayMs(): number {
    const wall = wallMs();
    const ends = reasons.map(({ until_ms }) => (until_ms === undefined ? Infinity : until_ms - wall + 1));
    return Math.max(1, Math.min(GUEST_LIMITS.lookMs, ...ends));
  }

  function anew(): void {
    callOff();
    decide();
    lookLater();
  }

  await read();
  decide();
  lookLater();
  return {
    state: () => ({
      serving: reasons.length === 0,
      slots: settings.limits.slots ?? null,
      reasons,
      readings,
    }),
    settings: () => settings,
    async put(next) {
      await writeSettings(host, next);
      settings = next;
      anew();
      onChange();
    },
    pause(untilMs) {
      kept = { ...kept, paused: { until_ms: untilMs } };
      keep();
      anew();
    },
    resume() {
      kept = { ...kept, paused: null };
      keep();
      anew();
    },
    async close() {
      closed = true;
      callOff();
      count();
      if (settings.limits.daily_hours != null) keep();
      await keeping;
    },
  };
}
