/**
 * The machine's say in when its agent serves: what its owner set, and what holds now. This one knows its owner's pause and the
 * slots; readings of the machine come with a fuller one of the same shape.
 */
import { z } from "zod";
import type { Host } from "../host.ts";
import { PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE } from "../identity.ts";
import { limitsSchema, scheduleSchema } from "./owner.ts";

const SETTINGS_FILE = "settings.json";

const settingsSchema = z.object({
  limits: limitsSchema.partial().default({}),
  schedule: scheduleSchema.default({ on: true, windows: [] }),
});
export type GuestSettings = z.infer<typeof settingsSchema>;

export interface PauseReason {
  code: string;
  message: string;
  until_ms?: number;
}

export interface GuestState {
  serving: boolean;
  /** Attempts at once; null for what the engines can do. */
  slots: number | null;
  /** Empty while it serves. */
  reasons: PauseReason[];
}

export interface Guest {
  state(): GuestState;
  settings(): GuestSettings;
  put(settings: GuestSettings): Promise<void>;
  /** Until a moment, or until `resume`. */
  pause(untilMs: number | null): void;
  resume(): void;
  close(): void;
}

type SettingsHost = Pick<Host, "files" | "directories">;

/** What is kept; the defaults where nothing is. Throws with the file's name where it is damaged. */
export async function readSettings({ files, directories }: SettingsHost): Promise<GuestSettings> {
  const path = files.join(directories.config, SETTINGS_FILE);
  const bytes = await files.read(path);
  if (bytes === null) return settingsSchema.parse({});
  try {
    return settingsSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (cause) {
    const why =
      cause instanceof z.ZodError ? `: ${cause.issues[0]!.path.join(".")}: ${cause.issues[0]!.message}` : "";
    throw new Error(`${path} is damaged${why}. Correct it, or remove it to begin with none`, { cause });
  }
}

export async function writeSettings(
  { files, directories }: SettingsHost,
  settings: GuestSettings,
): Promise<void> {
  await files.makeDirectory(directories.config, PRIVATE_DIRECTORY_MODE);
  const path = files.join(directories.config, SETTINGS_FILE);
  await files.write(path, `${JSON.stringify(settingsSchema.parse(settings), null, 2)}\n`, {
    mode: PRIVATE_FILE_MODE,
  });
}

export interface GuestOptions {
  host: SettingsHost & Pick<Host, "after" | "nowMs">;
  settings: GuestSettings;
  onChange(): void;
}

export function createGuest({ host, onChange, ...options }: GuestOptions): Guest {
  let settings = options.settings;
  let paused: PauseReason | null = null;
  let callOff = () => {};

  function resume(): void {
    callOff();
    if (paused === null) return;
    paused = null;
    onChange();
  }

  return {
    state: () => ({
      serving: paused === null,
      slots: settings.limits.slots ?? null,
      reasons: paused ? [paused] : [],
    }),
    settings: () => settings,
    async put(next) {
      await writeSettings(host, next);
      settings = next;
      onChange();
    },
    pause(untilMs) {
      callOff();
      paused = {
        ...{ code: "owner_paused", message: "you paused it; `gfe resume` goes on" },
        ...(untilMs === null ? {} : { until_ms: untilMs }),
      };
      if (untilMs !== null) callOff = host.after(Math.max(0, untilMs - host.nowMs()), resume);
      onChange();
    },
    resume,
    close: () => callOff(),
  };
}
