/** The npm package `gpu-for-everyone`: the agent and the client's commands as plain JavaScript, with all that they need. */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { rolldown } from "rolldown";

export const PACKAGE_NAME = "gpu-for-everyone";
/** Of its own code, unpacked. */
export const CODE_BYTES_MAX = 1_000_000;
const ROOT = join(import.meta.dirname, "..", "..");
const ENTRY = join(ROOT, "packages/cli/src/npm/main.ts");

/** In words that every Node understands: it may be older than the program. */
const BIN = `#!/usr/bin/env node
if (Number(process.versions.node.split(".")[0]) < 20) {
  console.error("gpu-for-everyone needs Node 20 or later; this is " + process.versions.node + ". The agent is also to be had as one file: see /download at your hub.");
  process.exit(1);
}
import("../lib/main.js").catch(function (error) {
  console.error(error);
  process.exit(1);
});
`;

const README = `# gpu-for-everyone

Share this machine's GPU through a hub and earn credits, or spend them on models that others serve.

\`\`\`
npx gpu-for-everyone up --hub https://hub.example.org
\`\`\`

It finds Ollama, llama.cpp, vLLM, LM Studio and others by itself, and prints a code to approve in the browser. To run a GGUF file
without any of them, install the built-in engine beside it:

\`\`\`
npm install -g gpu-for-everyone node-llama-cpp
gfe up --hub https://hub.example.org --model-path ./model.gguf
\`\`\`

\`gfe --help\` tells the rest. Hubs are not in this package: they run from the project's image or its sources.
`;

/** Makes the package in `directory` anew and resolves with its code's size. */
export async function buildNpmPackage(
  directory: string,
  { releaseKey }: { releaseKey: string | null },
): Promise<{ codeBytes: number; version: string }> {
  const root = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Record<string, string>;
  const agent = JSON.parse(readFileSync(join(ROOT, "packages/agent/package.json"), "utf8")) as {
    optionalDependencies: Record<string, string>;
  };
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(join(directory, "bin"), { recursive: true });
  const build = await rolldown({
    input: { main: ENTRY },
    platform: "node",
    external: ["node-llama-cpp", "bufferutil", "utf-8-validate"],
    transform: {
      target: "node20",
      define: { __GFE_BUILD__: JSON.stringify({ kind: "npm", releaseKey }) },
    },
    logLevel: "warn",
  });
  await build.write({
    dir: join(directory, "lib"),
    format: "esm",
    minify: true,
    entryFileNames: "[name].js",
    chunkFileNames: "[name].js",
  });
  await build.close();
  writeFileSync(join(directory, "bin/gfe.js"), BIN, { mode: 0o755 });
  writeFileSync(join(directory, "README.md"), README);
  copyFileSync(join(ROOT, "LICENSE"), join(directory, "LICENSE"));
  const manifest = {
    name: PACKAGE_NAME,
    version: root.version,
    description: root.description,
    license: root.license,
    type: "module",
    bin: { [PACKAGE_NAME]: "bin/gfe.js", gfe: "bin/gfe.js" },
    files: ["bin", "lib"],
    engines: { node: ">=20" },
    peerDependencies: { "node-llama-cpp": agent.optionalDependencies["node-llama-cpp"] },
    peerDependenciesMeta: { "node-llama-cpp": { optional: true } },
  };
  writeFileSync(join(directory, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  const codeBytes = ["bin", "lib"].reduce((sum, folder) => sum + sizeOf(join(directory, folder)), 0);
  return { codeBytes, version: root.version! };
}

const sizeOf = (folder: string): number =>
  readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
