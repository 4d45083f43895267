/**
 * `npm run sign:agents -- --key FILE [--dir dist/agents] [--expires-days 180]` signs a release; `-- --new-key FILE` makes a key.
 * docs/distribution.md says what is trusted and why.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { makeReleaseKey, readReleaseKey } from "./release/keys.ts";
import { signRelease } from "./release/sign.ts";

const { values } = parseArgs({
  options: {
    key: { type: "string" },
    "new-key": { type: "string" },
    dir: { type: "string", default: join(import.meta.dirname, "..", "dist", "agents") },
    "expires-days": { type: "string", default: "180" },
  },
});
const days = Number(values["expires-days"]);
try {
  if (values["new-key"]) {
    const { publicFile } = makeReleaseKey(values["new-key"]);
    console.log(
      `Made ${values["new-key"]}: keep it off the network. Its public half, for builds:\n\n  GFE_RELEASE_KEY=${publicFile.split("\n")[1]}\n`,
    );
  } else if (!values.key) throw new Error("--key FILE names the key to sign with; --new-key FILE makes one");
  else if (!Number.isInteger(days) || days < 1)
    throw new Error("--expires-days is a whole number above zero");
  else {
    const key = readReleaseKey(values.key);
    const nowS = Math.floor(Date.now() / 1000);
    const signed = signRelease({ directory: values.dir, key, nowS, expiresDays: days });
    console.log(`Signed ${signed.length} files in ${values.dir}. Agents take this release for ${days} days.`);
  }
} catch (error) {
  console.error(`sign:agents: ${(error as Error).message}`);
  process.exit(1);
}
