/**
 * When a node serves, and when its machine is its owner's alone: pure. What is read of the machine and what the owner set
 * come in; the reasons against serving come out. What flickers (a GPU that cools down because it was paused) holds for a
 * while after it was last so.
 */
import { daysOf, type Window } from "../control/owner.ts";
import type { GuestSettings, PauseReason } from "../control/settings.ts";
import type { GpuProgram, Readings } from "./readings.ts";

/** Pausing by temperature ends so far below the limit. */
export const COOLER_BY_C = 5;
/** What flickers holds for so long after it was last so. */
export const HOLD_MS = 60_000;
/** A program that draws and takes more of the GPU than this is a game, or as good as one. */
export const GAME_LOAD_PERCENT = 30;

/** Programs that draw all day, and nobody minds. */
const DESKTOP =
  /xorg|xwayland|gnome-shell|kwin|plasmashell|compton|picom|mutter|weston|dwm|explorer|windowserver/i;
/** Programs that are engines, not the owner's other work; Python may be vLLM or TabbyAPI and gets the benefit of the doubt. */
const ENGINE = /ollama|llama|vllm|kobold|local-?ai|lm.?studio|lms|jan|tabby|python|node|gfe|bun/i;

export type PauseCode =
  | "owner_paused"
  | "schedule"
  | "daily_hours"
  | "keyboard"
  | "game"
  | "battery"
  | "metered"
  | "temperature"
  | "power"
  | "memory";

export interface Situation {
  settings: GuestSettings;
  readings: Readings;
  /** The owner's pause: until when by the wall clock, null for until it is resumed; absent where there is none. */
  pausedUntilMs?: number | null;
  /** Of serving, since local midnight. */
  servedTodayMs: number;
  /** The wall clock; its local time is the owner's. */
  wallMs: number;
  /** When each reason was last so, by the wall clock; those that hold or held. */
  before: ReadonlyMap<PauseCode, number>;
}

/** The reasons against serving, those first that the owner chose himself; empty where the node may serve. */
export function reasonsAgainst(situation: Situation): PauseReason[] {
  const { settings, readings, servedTodayMs, wallMs } = situation;
  const { limits, schedule, pause_when } = settings;
  const reasons: PauseReason[] = [];
  const add = (code: PauseCode, message: string, untilMs?: number | null) =>
    reasons.push({ code, message, ...(typeof untilMs === "number" ? { until_ms: untilMs } : {}) });

  if (situation.pausedUntilMs !== undefined)
    add("owner_paused", "you paused it; `gfe resume` goes on", situation.pausedUntilMs);
  if (schedule.on && schedule.windows.length > 0 && !schedule.windows.some((one) => isWithin(one, wallMs)))
    add("schedule", "it is outside the hours of its schedule", nextStart(schedule.windows, wallMs));
  if (limits.daily_hours != null && servedTodayMs >= limits.daily_hours * 3_600_000)
    add("daily_hours", `it has served its ${limits.daily_hours} h of today`, nextMidnight(wallMs));

  const idleMs = readings.idle_ms;
  const awayMs = (pause_when.keyboard_minutes ?? 0) * 60_000;
  if (pause_when.keyboard_minutes != null && idleMs !== null && idleMs < awayMs)
    add("keyboard", "somebody is at the keyboard", wallMs + awayMs - idleMs);
  if (pause_when.battery && readings.on_battery === true) add("battery", "the machine runs on its battery");
  if (pause_when.metered && readings.metered === true) add("metered", "the network costs by what is sent");

  const game = pause_when.game ? readings.programs?.find(isGame) : undefined;
  holds(situation, "game", game !== undefined, () =>
    add("game", game ? `${game.name} uses the GPU` : "another program used the GPU a moment ago"),
  );
  const hottest = most(readings.gpus.map(({ temperature_c }) => temperature_c));
  const { temperature_c, power_w, memory_percent } = limits;
  if (temperature_c != null) {
    const bound = situation.before.has("temperature") ? temperature_c - COOLER_BY_C : temperature_c;
    if (hottest !== null && hottest >= bound)
      add("temperature", `the GPU is at ${Math.round(hottest)} °C (limit ${temperature_c})`);
  }
  const watts = sum(readings.gpus.map((gpu) => gpu.power_w));
  holds(situation, "power", power_w != null && watts !== null && watts >= power_w, () =>
    add("power", `the GPU took ${Math.round(watts ?? 0)} W (limit ${power_w})`),
  );
  const others = othersPercent(readings);
  holds(situation, "memory", memory_percent != null && others !== null && others >= memory_percent, () =>
    add(
      "memory",
      `other programs have ${Math.round(others ?? 0)} % of the GPU's memory (limit ${memory_percent})`,
    ),
  );
  return reasons;
}

/** Calls `then` where it is so, or was within HOLD_MS. */
function holds({ before, wallMs }: Situation, code: PauseCode, isSo: boolean, then: () => void): void {
  const lastMs = before.get(code);
  if (isSo || (lastMs !== undefined && wallMs - lastMs < HOLD_MS && wallMs >= lastMs)) then();
}

/**
 * When each reason was last so, for the next look: what only holds keeps its time. `fresh` tells what is so now.
 */
export function remembered(situation: Situation, reasons: readonly PauseReason[]): Map<PauseCode, number> {
  const fresh = reasonsAgainst({ ...situation, before: new Map() });
  const isFresh = new Set(fresh.map(({ code }) => code));
  return new Map(
    reasons.map(({ code }) => {
      const known = situation.before.get(code as PauseCode);
      return [code as PauseCode, isFresh.has(code) || known === undefined ? situation.wallMs : known];
    }),
  );
}

const isGame = ({ name, draws, load_percent }: GpuProgram): boolean =>
  draws && (load_percent ?? 0) >= GAME_LOAD_PERCENT && !DESKTOP.test(name) && !ENGINE.test(name);

/** What other programs than engines have of all GPUs' memory; null where nothing tells. */
function othersPercent({ gpus, programs }: Readings): number | null {
  const total = sum(gpus.map(({ memory_bytes }) => memory_bytes));
  if (programs === null || total === null || total === 0) return null;
  const others = programs.filter(({ name }) => !ENGINE.test(name) && !DESKTOP.test(name));
  return (100 * (sum(others.map(({ memory_bytes }) => memory_bytes)) ?? 0)) / total;
}

const known = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null);
const most = (values: readonly (number | null)[]): number | null =>
  known(values).length > 0 ? Math.max(...known(values)) : null;
const sum = (values: readonly (number | null)[]): number | null =>
  known(values).length > 0 ? known(values).reduce((total, value) => total + value, 0) : null;

const minutesOf = (time: string): number => Number(time.slice(0, 2)) * 60 + Number(time.slice(3, 5));
/** Monday is 0. */
const dayOf = (date: Date): number => (date.getDay() + 6) % 7;

/** Whether a moment is in a window, by local time: one past midnight belongs to the day on which it begins. */
export function isWithin({ days, from, to }: Window, wallMs: number): boolean {
  const date = new Date(wallMs);
  const [start, end, now] = [minutesOf(from), minutesOf(to), date.getHours() * 60 + date.getMinutes()];
  const on = daysOf(days) ?? [];
  const [today, yesterday] = [on.includes(dayOf(date)), on.includes((dayOf(date) + 6) % 7)];
  if (start < end) return today && now >= start && now < end;
  return (today && now >= start) || (yesterday && now < end);
}

/** When the next of the windows begins, by the wall clock; null where none does within a week. */
export function nextStart(windows: readonly Window[], wallMs: number): number | null {
  let next: number | null = null;
  for (let ahead = 0; ahead <= 7; ahead++) {
    for (const { days, from } of windows) {
      const start = new Date(wallMs);
      start.setDate(start.getDate() + ahead);
      start.setHours(Math.floor(minutesOf(from) / 60), minutesOf(from) % 60, 0, 0);
      const atMs = start.getTime();
      if (!(daysOf(days) ?? []).includes(dayOf(start)) || atMs <= wallMs) continue;
      if (next === null || atMs < next) next = atMs;
    }
    if (next !== null) return next;
  }
  return next;
}

export function nextMidnight(wallMs: number): number {
  const date = new Date(wallMs);
  date.setDate(date.getDate() + 1);
  date.setHours(0, 0, 0, 0);
  return date.getTime();
}

/** The local day, as a name that changes at midnight. */
export const dayName = (wallMs: number): string => {
  const date = new Date(wallMs);
  return `${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;
};
