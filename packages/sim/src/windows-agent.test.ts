/**
 * The slim executable for Windows, started under wine against a real hub. Debian's wine lacks one library that Go's programs ask for
 * random numbers (bcryptprimitives.dll); where it does, a stand-in of one function is made with Debian's MinGW.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bundleScript } from "../../../scripts/agents/bundle.ts";
import { buildSlim } from "../../../scripts/agents/slim.ts";
import { canBuildSlim } from "../../../scripts/agents/test-builds.ts";
import { type PacedEngine, startPacedEngine } from "./paced-engine.ts";
import { startWorld, until, type World } from "./world.ts";

const BUILD_MS = 600_000;
const WINE_MS = 60_000;
const MINGW = "x86_64-w64-mingw32-gcc-win32";
const MAIN = new URL("../../agent/src/slim/main.ts", import.meta.url).pathname;
const STAND_IN = `#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) { return SystemFunction036(data, (ULONG)length); }
`;

const has = (program: string) => spawnSync(program, ["--version"], { timeout: WINE_MS }).error === undefined;
const canRun = process.arch === "x64" && has("wine") && has(MINGW);
if (!canRun) console.warn("\n*** wine or MinGW is absent: the Windows executable is NOT started ***\n");
const canBuild = canRun && (await canBuildSlim("the slim executable for Windows"));

describe.skipIf(!canBuild)("the slim executable for Windows, under wine", () => {
  let directory: string;
  let program: string;
  let environment: NodeJS.ProcessEnv;
  let world: World;
  let engine: PacedEngine;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "gfe-wine-"));
    program = join(directory, "gfe.exe");
    await bundleScript(MAIN, "agent");
    await buildSlim({ goos: "windows", goarch: "amd64" }, program);
    const prefix = join(directory, "prefix");
    environment = { PATH: process.env.PATH, HOME: directory, WINEPREFIX: prefix, WINEDEBUG: "-all" };
    await wine("cmd", "/c", "exit"); // makes the prefix
    const system = join(prefix, "drive_c/windows/system32");
    if (!existsSync(join(system, "bcryptprimitives.dll"))) {
      mkdirSync(system, { recursive: true });
      writeFileSync(join(directory, "prng.c"), STAND_IN);
      const library = join(system, "bcryptprimitives.dll");
      execFileSync(MINGW, ["-shared", "-o", library, join(directory, "prng.c"), "-ladvapi32"]);
      environment.WINEDLLOVERRIDES = "bcryptprimitives=n,b";
    }
    world = await startWorld();
    engine = await startPacedEngine("quick", 10, 1);
  }, BUILD_MS);
  afterAll(async () => {
    if (environment) spawnSync("wineserver", ["-k"], { env: environment, timeout: WINE_MS });
    await engine?.close();
    await world?.end();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Beside the hub, which lives in this process. */
  const wine = (...words: string[]) =>
    new Promise<{ status: number | null; stdout: string }>((resolve) => {
      const child = spawn("wine", words, { env: environment, timeout: WINE_MS });
      let stdout = "";
      child.stdout.on("data", (chunk) => (stdout += chunk));
      child.once("close", (status) => resolve({ status, stdout }));
    });

  it("says its version, and that no agent runs", async () => {
    expect((await wine(program, "--version")).stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/);
    expect((await wine(program, "status")).status).toBe(3);
  });

  it(
    "joins a hub, serves, and leaves when it is told to from another process",
    async () => {
      const provider = await world.person("provider");
      const child = spawn(
        "wine",
        [program, "up", "--hub", world.hub.url, "--no-detect", "--engine", engine.url, "--json"],
        { env: { ...environment, GFE_AGENT_TOKEN: provider.agentToken } },
      );
      let said = "";
      child.stdout.on("data", (chunk) => (said += chunk));
      child.stderr.on("data", (chunk) => (said += chunk));
      const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
      await until(() => said.includes('"joined"'), `it joins: ${said}`, WINE_MS);
      const answer = await world.call("POST", "/v1/chat/completions", {
        as: await world.person("caller"),
        body: { model: "quick", messages: [{ role: "user", content: "Hello" }] },
      });
      expect(answer.status).toBe(200);
      // Wine answers nobody who asks a new pipe for the first time.
      await until(async () => (await wine(program, "status")).status === 0, "it answers", WINE_MS);
      expect((await wine(program, "drain")).status).toBe(0);
      expect(await ended, said).toBe(0);
    },
    2 * WINE_MS,
  );
});
