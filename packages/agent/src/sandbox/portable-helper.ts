/** A helper of the agent in an image, whose system is not this machine's. */
import type { Helper, Host } from "../host.ts";
import { SANDBOX_LIMITS } from "./sandbox.ts";

export interface Placed extends Helper {
  /** Files that it sees elsewhere. */
  places?: readonly { from: string; to: string }[];
}

const OWN_LIBRARIES = "/gfe-lib";
const OWN_LOADER = `${OWN_LIBRARIES}/loader`;

/**
 * The relay in an image, which may have other libraries than this machine or none: it brings its own, and what loads them. Null
 * where it needs none.
 */
export async function portableHelper(
  host: Pick<Host, "helper" | "run">,
): Promise<((helper: Helper) => Placed) | null> {
  const command = host.helper("relay")?.command;
  if (command === undefined) return null;
  const listed = await host.run("ldd", [command], { timeoutMs: SANDBOX_LIMITS.trialMs });
  if (listed.type !== "ran" || listed.exitCode !== 0) return null;
  const libraries = [...listed.stdout.matchAll(/=> (\/\S+) \(0x/g)].map((match) => match[1]!);
  const loader = /^\s*(\/\S*\/ld-\S+) \(0x/m.exec(listed.stdout)?.[1];
  if (loader === undefined) return null;
  const folders = [...new Set(libraries.map((path) => path.slice(0, path.lastIndexOf("/"))))];
  return (helper) =>
    helper.command !== command
      ? helper
      : {
          command: OWN_LOADER,
          args: [
            "--library-path",
            folders.map((folder) => OWN_LIBRARIES + folder).join(":"),
            command,
            ...helper.args,
          ],
          reads: helper.reads,
          places: [
            { from: loader, to: OWN_LOADER },
            ...libraries.map((from) => ({ from, to: OWN_LIBRARIES + from })),
          ],
        };
}
