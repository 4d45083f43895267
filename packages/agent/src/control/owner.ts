/** What the owner sets: pause, limits, schedule. The guest (guest/) keeps to it. */
import { z } from "zod";

/** Null: no limit of this kind. */
export const limitsSchema = z.object({
  /** Answers at once, over all models. */
  slots: z.number().int().min(1).max(256).nullable(),
  /** Answers at once with one model of an engine, by its kind or address. */
  engine_slots: z.record(z.string().max(300), z.number().int().min(1).max(1024)).nullable(),
  /** Celsius, of the hottest GPU. */
  temperature_c: z.number().min(30).max(120).nullable(),
  /** Watts, of all GPUs together. */
  power_w: z.number().min(10).max(20_000).nullable(),
  /** Of the GPUs' memory, by other programs. */
  memory_percent: z.number().min(1).max(100).nullable(),
  /** Of serving, a day. */
  daily_hours: z.number().min(1).max(24).nullable(),
});
export type Limits = z.infer<typeof limitsSchema>;

/** What else pauses the node. A tool that does not tell counts as: it is not so. */
export const pauseWhenSchema = z.object({
  /** Somebody was at the keyboard or mouse within so many minutes; null: that is no reason. */
  keyboard_minutes: z.number().min(0.1).max(1440).nullable(),
  /** Another program draws on the GPU and takes much of it. */
  game: z.boolean(),
  battery: z.boolean(),
  /** The network costs by what is sent. */
  metered: z.boolean(),
});
export type PauseWhen = z.infer<typeof pauseWhenSchema>;

/** Nobody's game stutters, no battery runs down and no mobile contract is used up unasked; a desk may be sat at. */
export const PAUSE_WHEN_DEFAULT: PauseWhen = {
  keyboard_minutes: null,
  game: true,
  battery: true,
  metered: true,
};
/** What is not said is as by default. */
export const storedPauseWhenSchema = pauseWhenSchema
  .partial()
  .transform((said): PauseWhen => ({ ...PAUSE_WHEN_DEFAULT, ...said }));

const time = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$|^24:00$/, "must be a time such as 22:00");
const windowSchema = z.object({
  /** "mon-fri", "sat,sun", "daily". */
  days: z.string().refine((text) => daysOf(text) !== null, "must be days such as mon-fri, sat,sun or daily"),
  from: time,
  /** Past midnight where it is not behind `from`. */
  to: time,
});
export type Window = z.infer<typeof windowSchema>;

export const scheduleSchema = z.object({
  /** Off: the windows are kept, and do not count. */
  on: z.boolean(),
  /** None: at any time. */
  windows: z.array(windowSchema).max(50),
});
export type Schedule = z.infer<typeof scheduleSchema>;

const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;

/** "mon-fri" → [0, 1, 2, 3, 4], Monday first; a range may pass Sunday. Null where it is none. */
export function daysOf(text: string): number[] | null {
  if (text === "daily") return DAYS.map((_day, index) => index);
  const days = new Set<number>();
  for (const part of text.split(",")) {
    const [first, last, ...rest] = part.split("-").map((day) => DAYS.indexOf(day as (typeof DAYS)[number]));
    if (rest.length > 0 || first === undefined || first < 0 || (last !== undefined && last < 0)) return null;
    for (let day = first; ; day = (day + 1) % DAYS.length) {
      days.add(day);
      if (day === (last ?? first)) break;
    }
  }
  return [...days].sort();
}

/** "22:00-07:00" → its two times; null where it is none. */
export function hoursOf(text: string): { from: string; to: string } | null {
  const [from = "", to = "", ...rest] = text.split("-");
  const isWindow = rest.length === 0 && time.safeParse(from).success && time.safeParse(to).success;
  return isWindow && from !== to && from !== "24:00" ? { from, to } : null;
}

export const windowText = ({ days, from, to }: Window): string => `${days} ${from}-${to}`;
