/** What the owner sets for good: kept in the configuration directory, read at the agent's start, written by its commands. */
import { z } from "zod";
import type { Host } from "../host.ts";
import { PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE } from "../identity.ts";
import { limitsSchema, scheduleSchema, storedPauseWhenSchema } from "./owner.ts";

export const SETTINGS_FILE = "settings.json";

const settingsSchema = z.object({
  limits: limitsSchema.partial().default({}),
  schedule: scheduleSchema.default({ on: true, windows: [] }),
  pause_when: storedPauseWhenSchema.prefault({}),
});
export type GuestSettings = z.infer<typeof settingsSchema>;

/** Why a node does not serve, though it could. */
export interface PauseReason {
  code: string;
  message: string;
  /** By the wall clock. */
  until_ms?: number;
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
