/** The helpers of the agent on Node: files beside this one, run by the same Node. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Host } from "./host.ts";

const FOLDER = import.meta.dirname;

/** Runs from its sources; a packed program gives its own `helper` to createNodeHost. */
export const nodeHelper: Host["helper"] = (name) => {
  const command = process.execPath;
  if (name === "relay") {
    const script = join(FOLDER, "node-relay.ts");
    return { command, args: [script], reads: [command, script] };
  }
  const library = libraryFolder(FOLDER);
  if (library === null) return null;
  const packages = ["agent", "protocol"].map((one) => join(dirname(dirname(FOLDER)), one));
  return { command, args: [join(FOLDER, "node-built-in.ts")], reads: [command, library, ...packages] };
};

/** The node_modules, here or above, that has the built-in engine's library and what that needs. */
function libraryFolder(from: string): string | null {
  const folder = join(from, "node_modules");
  if (existsSync(join(folder, "node-llama-cpp"))) return folder;
  const above = dirname(from);
  return above === from ? null : libraryFolder(above);
}
