/** The npm package as a stranger gets it: packed, run by npx in an empty folder, against a hub. */
import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildNpmPackage, CODE_BYTES_MAX } from "../../../scripts/release/npm-package.ts";
import { startWorld, until, type World } from "./world.ts";

const RUN_MS = 60_000;
const run = promisify(execFile);

/** Each major version of Node that this machine has, and where. */
const nodes = new Map<string, string>();
for (const folder of new Set([
  dirname(process.execPath),
  ...(process.env.PATH ?? "").split(":"),
  "/usr/bin",
])) {
  const version = spawnSync(join(folder, "node"), ["--version"], { encoding: "utf8" }).stdout?.trim();
  const major = /^v(\d+)/.exec(version ?? "")?.[1];
  if (major && Number(major) >= 20 && !nodes.has(major)) nodes.set(major, join(folder, "node"));
}
if (!nodes.has("20")) console.warn("NOT TESTED: Node 20 is absent; the npm package is for it, too.");

let root: string;
let tarball: string;
let codeBytes: number;
let world: World;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "gfe-npm-"));
  world = await startWorld();
  ({ codeBytes } = await buildNpmPackage(join(root, "package"), { releaseKey: null }));
  execFileSync("npm", ["pack", "--ignore-scripts", "--pack-destination", root], {
    ...{ cwd: join(root, "package"), stdio: "ignore", timeout: RUN_MS },
  });
  tarball = join(root, readdirSync(root).find((name) => name.endsWith(".tgz"))!);
});
afterAll(async () => {
  await world.end();
  rmSync(root, { recursive: true, force: true });
});

test("its own code is within its limit, and it asks for nothing else", async () => {
  expect(codeBytes).toBeLessThan(CODE_BYTES_MAX);
  const { stdout } = await run("tar", ["-xOf", tarball, "package/package.json"]);
  const manifest = JSON.parse(stdout);
  expect([manifest.name, manifest.engines, Object.keys(manifest.bin)]).toEqual([
    "gpu-for-everyone",
    { node: ">=20" },
    ["gpu-for-everyone", "gfe"],
  ]);
  expect(manifest.dependencies).toBeUndefined();
  expect(manifest.peerDependenciesMeta).toEqual({ "node-llama-cpp": { optional: true } });
});

describe.each([...nodes])("on Node %s", (major, node) => {
  /** A folder and a home without anything; npm's own cache is the package's alone. */
  function stranger() {
    const folder = join(root, `empty-${major}`);
    const bin = join(root, `bin-${major}`);
    for (const one of [folder, bin]) mkdirSync(one, { recursive: true });
    try {
      symlinkSync(node, join(bin, "node"));
    } catch {}
    const env = {
      PATH: `${bin}:${process.env.PATH}`,
      HOME: folder,
      npm_config_cache: join(root, `cache-${major}`),
      npm_config_offline: "true",
      npm_config_update_notifier: "false",
    };
    return { cwd: folder, env };
  }
  const npx = (...args: string[]) => ["--yes", `--package=${tarball}`, "--", "gpu-for-everyone", ...args];

  test("`npx gpu-for-everyone up` joins the hub, serves, and leaves in good order", async () => {
    const owner = await world.person(`npm-${major}`);
    const child: ChildProcess = spawn(
      "npx",
      npx("up", "--hub", world.hub.url, "--scripted", "--no-detect", "--json", "--name", `npm-${major}`),
      { ...stranger(), env: { ...stranger().env, GFE_AGENT_TOKEN: owner.agentToken }, detached: true },
    );
    let said = "";
    child.stdout!.on("data", (chunk) => (said += chunk));
    child.stderr!.on("data", (chunk) => (said += chunk));
    // Of the agent, too: it holds the other end of the pipes.
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    try {
      await Promise.race([
        until(() => said.includes('"joined"'), "it joins", RUN_MS),
        ended.then((code) => Promise.reject(new Error(`it ended with ${code}: ${said}`))),
      ]);
      const answer = await world.call("POST", "/v1/chat/completions", {
        as: await world.person(`caller-${major}`),
        body: { model: "scripted", messages: [{ role: "user", content: "Hello" }] },
      });
      expect([answer.status, answer.body.x_gfe?.node_name]).toEqual([200, `npm-${major}`]);
    } finally {
      process.kill(-child.pid!, "SIGINT"); // as Ctrl-C does: to all of them
    }
    await ended;
    expect(said).toMatch(/"type":"ended","reason":\{"type":"drained"\}/);
    expect(said).not.toMatch(/ExperimentalWarning|DeprecationWarning/);
  });

  test("says where hubs are to be had, and has the client's commands", async () => {
    const gfe = (...args: string[]) =>
      run("npx", npx(...args), { ...stranger(), timeout: RUN_MS }).catch(({ stdout, stderr }) => ({
        stdout,
        stderr,
      }));
    expect((await gfe("hub", "--port", "1")).stderr).toMatch(/deploy\/compose\.yaml/);
    const help = (await gfe("--help")).stdout;
    for (const command of ["up", "status", "chat", "models", "doctor", "price", "uninstall"])
      expect(help).toMatch(new RegExp(`^  ${command} `, "m"));
    const models = await gfe("models", "--hub", world.hub.url, "--json");
    expect(JSON.parse(models.stdout)).toMatchObject({ models: expect.any(Array) });
  });
});
