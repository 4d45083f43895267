/** The agent's own directories, where they take nothing: said in words that help, before anything is begun. */
import { AgentError } from "./errors.ts";
import type { Host } from "./host.ts";
import { HUBS_FILE } from "./hub-records.ts";
import { KEY_FILE, PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE } from "./identity.ts";

const PROBE_FILE = "probe.tmp";
/** About a node key and a hub's record. */
const PROBE_BYTES = 1024;

/**
 * Rejects with AgentError where an agent could not start: the state directory has no room for its control endpoint, or the
 * configuration is to be written for the first time and can't be. One that is complete may be read-only.
 */
export async function checkHome({ files, directories }: Pick<Host, "files" | "directories">): Promise<void> {
  const { config, state } = directories;
  async function probe(directory: string, bytes: number): Promise<void> {
    const path = files.join(directory, PROBE_FILE);
    try {
      await files.makeDirectory(directory, PRIVATE_DIRECTORY_MODE);
      await files.write(path, "x".repeat(bytes), { mode: PRIVATE_FILE_MODE });
      await files.remove(path);
    } catch (cause) {
      throw homeUnwritable(directory, cause);
    }
  }
  const facts = [KEY_FILE, HUBS_FILE].map((name) => files.facts(files.join(config, name)).catch(() => null));
  if ((await Promise.all(facts)).includes(null)) await probe(config, PROBE_BYTES);
  await probe(state, 0);
}

/** What to do about a directory that takes nothing. */
export const homeUnwritable = (directory: string, cause: unknown): AgentError =>
  new AgentError(
    "home_unwritable",
    `${directory} cannot be written (${cause instanceof Error ? cause.message : String(cause)}). Make it yours (chown), free the disk, or give the agent another directory with --config-dir DIR.`,
    { cause },
  );
