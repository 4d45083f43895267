/** What updates keep from one start of the program to the next. */
import { z } from "zod";
import type { Host } from "../host.ts";
import { NO_RECORD, type UpdateRecord } from "./machine.ts";

export const UPDATE_FILE = "update.json";

const recordSchema = z.object({
  seenSignedAtS: z.int().min(0),
  failed: z.object({ version: z.string(), tries: z.int() }).nullable(),
  trial: z.object({ from: z.string(), to: z.string(), untilMs: z.number() }).nullable(),
});

type RecordHost = Pick<Host, "files" | "directories">;

/** What cannot be read is as none: it protects from old releases, and losing it must not end updates. */
export async function readRecord({ files, directories }: RecordHost): Promise<UpdateRecord> {
  const bytes = await files.read(files.join(directories.state, UPDATE_FILE)).catch(() => null);
  try {
    return recordSchema.parse(JSON.parse(new TextDecoder().decode(bytes ?? new Uint8Array())));
  } catch {
    return NO_RECORD;
  }
}

export async function writeRecord({ files, directories }: RecordHost, record: UpdateRecord): Promise<void> {
  await files.makeDirectory(directories.state, 0o700);
  await files.write(files.join(directories.state, UPDATE_FILE), `${JSON.stringify(record)}\n`, {
    mode: 0o600,
  });
}
