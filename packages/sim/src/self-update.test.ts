/** A running program that replaces itself: from a hub's downloads, into the hub. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { rolldown } from "rolldown";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildSlimHere, canBuildSlim } from "../../../scripts/agents/test-builds.ts";
import { makeReleaseKey, type ReleaseKey } from "../../../scripts/release/keys.ts";
import { signRelease } from "../../../scripts/release/sign.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const WAIT_MS = 45_000;
const BUILD_MS = 600_000;
const programs = [
  { name: "one file of a JavaScript runtime", kind: "full", isThere: true, build: buildScript },
  {
    name: "the slim executable",
    kind: "slim",
    isThere: await canBuildSlim("an update of the slim executable"),
    build: buildSlim,
  },
] as const;

let root: string;
let downloads: string;
let key: ReleaseKey;
let world: World;
let owner: Person;
let child: ChildProcess | null = null;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "gfe-self-update-"));
  downloads = join(root, "downloads");
  mkdirSync(downloads);
  key = makeReleaseKey(join(root, "release.key"));
  world = await startWorld({ GFE_DOWNLOADS_DIR: downloads });
  owner = await world.person("owner");
});
afterAll(async () => {
  child?.kill("SIGKILL");
  await world.end();
  rmSync(root, { recursive: true, force: true });
});

/** The npm package's program as one file that runs by itself where Node is on the path. */
async function buildScript(version: string, to: string): Promise<void> {
  const bundle = await rolldown({
    input: new URL("../../cli/src/npm/main.ts", import.meta.url).pathname,
    platform: "node",
    external: ["node-llama-cpp", "bufferutil", "utf-8-validate"],
    transform: {
      define: { __GFE_BUILD__: JSON.stringify({ kind: "executable", releaseKey: null, version }) },
    },
  });
  const { output } = await bundle.generate({ format: "esm", codeSplitting: false, minify: true });
  await bundle.close();
  // Node takes a file without an ending for a module where its syntax is one.
  writeFileSync(to, `#!/usr/bin/env node\n${output[0].code}`);
  chmodSync(to, 0o755);
}

async function buildSlim(version: string, to: string): Promise<void> {
  const built = await buildSlimHere("agent", { kind: "executable", releaseKey: null, version });
  copyFileSync(built, to);
  rmSync(dirname(built), { recursive: true });
}

function publish(kind: "full" | "slim", version: string, text: string | Buffer): void {
  const name = kind === "slim" ? `gfe-agent-slim-linux-${process.arch}` : `gfe-linux-${process.arch}`;
  const sha256 = createHash("sha256").update(text).digest("hex");
  const facts = {
    os: "linux",
    arch: process.arch,
    kind,
    bytes: Buffer.byteLength(text),
    compressed_bytes: 1,
  };
  writeFileSync(join(downloads, name), text);
  writeFileSync(join(downloads, "SHA256SUMS"), `${sha256}  ${name}\n`);
  writeFileSync(
    join(downloads, "manifest.json"),
    JSON.stringify({ version, files: [{ name, ...facts, sha256 }] }),
  );
  signRelease({ directory: downloads, key, nowS: Math.floor(Date.now() / 1000), expiresDays: 1 });
}

const nodes = async (): Promise<{ online: boolean }[]> =>
  (await world.call("GET", "/api/v1/nodes", { session: owner })).body.nodes;

for (const { name, kind, isThere, build } of programs)
  test.skipIf(!isThere)(
    `${name} becomes the next version, serves as it, and stays it where the one after crashes`,
    async () => {
      const home = join(root, kind);
      mkdirSync(home);
      const program = (version: string) => join(home, `gfe-${version}`);
      for (const version of ["1.0.0", "1.1.0"]) await build(version, program(version));
      const path = join(home, "gfe");
      copyFileSync(program("1.0.0"), path);
      const before = (await nodes()).length;
      child = spawn(
        path,
        ["up", "--hub", world.hub.url, "--scripted", "--no-detect", "--plain", "--updates", "auto"],
        {
          env: {
            ...{
              PATH: process.env.PATH,
              HOME: home,
              GFE_AGENT_TOKEN: owner.agentToken,
              GFE_UPDATE_INTERVAL: "1",
            },
            GFE_RELEASE_KEY: key.publicFile.split("\n")[1],
          },
        },
      );
      let said = "";
      for (const stream of [child.stdout!, child.stderr!]) stream.on("data", (chunk) => (said += chunk));
      const ended = new Promise<number | null>((resolve) => child!.once("close", resolve));
      const says = (words: string, times = 1) =>
        until(() => said.split(words).length > times, `it says "${words}": ${said}`, WAIT_MS);
      await says("Joined as");

      publish(kind, "1.1.0", readFileSync(program("1.1.0")));
      await says("Updated from 1.0.0 to 1.1.0.");
      await says("Joined as", 2);
      expect(readFileSync(path).equals(readFileSync(program("1.1.0")))).toBe(true);
      expect(readFileSync(`${path}.previous`).equals(readFileSync(program("1.0.0")))).toBe(true);
      const answer = await world.call("POST", "/v1/chat/completions", {
        as: await world.person("caller"),
        body: { model: "scripted", messages: [{ role: "user", content: "Hello" }] },
      });
      expect(answer.status).toBe(200);

      publish(kind, "1.2.0", "#!/bin/sh\nexit 139\n");
      await says("version 1.2.0 did not join the hub (it ended with 139): version 1.1.0 goes on");
      publish(kind, "1.1.0", readFileSync(program("1.1.0"))); // it was withdrawn
      await says("Joined as", 3);
      expect(readFileSync(path).equals(readFileSync(program("1.1.0")))).toBe(true);
      await until(async () => (await nodes()).some(({ online }) => online), "the node is there");
      expect(await nodes()).toHaveLength(before + 1);

      child.kill("SIGTERM");
      expect(await ended, said).toBe(0);
      child = null;
    },
    BUILD_MS,
  );
