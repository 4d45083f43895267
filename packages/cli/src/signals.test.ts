import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";

const children: ChildProcess[] = [];
const directories: string[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

function start(args: string[], env: Record<string, string> = {}) {
  const { DATABASE_URL: _embedded, ...rest } = process.env;
  const child = spawn(process.execPath, args, {
    env: { ...rest, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  return { child, ended, said: (text: string) => output(child, text) };
}

/** Resolves when the program has said so. */
function output(child: ChildProcess, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let all = "";
    child.stdout!.on("data", (chunk: Buffer) => {
      all += chunk;
      if (all.includes(text)) resolve();
    });
    child.once("exit", (code) => reject(new Error(`ended with ${code} without saying ${text}: ${all}`)));
  });
}

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

describe("Ctrl-C", () => {
  it("stops a hub in order although npm passes it on a second time, and leaves no database behind", async () => {
    const dataDir = mkdtempSync(join(tmpdir(), "gfe-signals-"));
    chmodSync(dataDir, 0o711);
    directories.push(dataDir);
    const main = fileURLToPath(new URL("./main.ts", import.meta.url));
    const hub = start([main, "hub", "--no-build"], { PORT: "0", GFE_DATA_DIR: join(dataDir, "hub") });
    await hub.said("GPU For Everyone is running");
    const pidFile = readFileSync(join(dataDir, "hub", "postgres", "postmaster.pid"), "utf8");
    const database = Number(pidFile.split("\n")[0]);
    expect(alive(database)).toBe(true);
    hub.child.kill("SIGINT");
    await hub.said("Stopping");
    hub.child.kill("SIGINT");
    expect(await hub.ended).toBe(0);
    expect(alive(database)).toBe(false);
  }, 60_000);

  it("pressed again ends at once, after what must not be left behind was abandoned", async () => {
    const module = new URL("./signals.ts", import.meta.url).href;
    const program = start([
      "--input-type=module",
      "-e",
      `import { createStopRequest, untilStopped } from ${JSON.stringify(module)};
       const keepAlive = setInterval(() => {}, 1000);
       process.once("SIGINT", () => setTimeout(() => console.log("later"), 600));
       const request = createStopRequest();
       request.onAgain(() => console.log("abandoned"));
       console.log("ready");
       await untilStopped(() => new Promise(() => {}), request);`,
    ]);
    await program.said("ready");
    const [later, abandoned] = [program.said("later"), program.said("abandoned")];
    program.child.kill("SIGINT");
    await later;
    program.child.kill("SIGINT");
    await abandoned;
    expect(await program.ended).toBe(130);
  });
});
