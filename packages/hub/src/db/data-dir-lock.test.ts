import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { lockDataDir } from "./data-dir-lock.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gfe-lock-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const LOCKER = new URL("./data-dir-lock.ts", import.meta.url).href;

/** Another process that tries; says what became of it, and holds on until it is killed. */
function contender() {
  const child = spawn(process.execPath, [
    "--input-type=module",
    "-e",
    `const { lockDataDir } = await import(${JSON.stringify(LOCKER)});
     try { lockDataDir(${JSON.stringify(dir)}); console.log("got"); setInterval(() => {}, 1000); }
     catch (error) { console.log(error.message); }`,
  ]);
  const said = once(child.stdout, "data").then(([data]) => String(data).trim());
  return { child, said };
}

test("a second hub on the same data directory is refused, and told by whom", async () => {
  const { child, said } = contender();
  expect(await said).toBe("got");
  expect(() => lockDataDir(dir)).toThrow(
    new RegExp(`process ${child.pid}\\) uses the data directory ${dir}.*GFE_DATA_DIR`),
  );
  child.kill("SIGKILL");
  await once(child, "exit");
  lockDataDir(dir)();
  expect(readdirSync(dir)).toEqual([]);
});

test("the lock of a process whose id belongs to something else by now is stale", () => {
  writeFileSync(join(dir, "hub.lock"), `${process.pid} 1\n`);
  const unlock = lockDataDir(dir);
  expect(() => lockDataDir(dir)).toThrow("Another hub");
  unlock();
});

test.each(["", "nonsense", "0 0", "-1 5", "999999999 5"])("a lock that says %j is stale", (text) => {
  writeFileSync(join(dir, "hub.lock"), text);
  lockDataDir(dir)();
});

test("what a hub that was killed while taking over left behind holds nobody up", () => {
  writeFileSync(join(dir, "hub.lock"), "999999999 5\n");
  writeFileSync(join(dir, "hub.lock.takeover"), "999999998 5\n");
  lockDataDir(dir)();
  expect(readdirSync(dir)).toEqual([]);
});

test("of several that see the same stale lock, exactly one gets it", async () => {
  writeFileSync(join(dir, "hub.lock"), "999999999 5\n");
  const contenders = Array.from({ length: 6 }, contender);
  try {
    const said = await Promise.all(contenders.map((each) => each.said));
    expect(said.filter((text) => text === "got")).toHaveLength(1);
    const winner = contenders[said.indexOf("got")]!;
    expect(readFileSync(join(dir, "hub.lock"), "utf8")).toContain(`${winner.child.pid} `);
    expect(existsSync(join(dir, "hub.lock.takeover"))).toBe(false);
  } finally {
    for (const { child } of contenders) child.kill("SIGKILL");
  }
});

test("a directory whose restore was broken off is refused, and not left locked", () => {
  mkdirSync(join(dir, "restoring"));
  expect(() => lockDataDir(dir)).toThrow(`A restore into ${dir} was not finished: empty the directory`);
  expect(readdirSync(dir)).toEqual(["restoring"]);
});

test.runIf(process.platform === "linux")("the lock of a process that ended unnoticed is stale", async () => {
  // The shell becomes a sleep, which never asks what became of its child.
  const parent = spawn("sh", ["-c", "exec 3<&0; cat <&3 & echo $!; exec sleep 60"]);
  try {
    const [data] = await once(parent.stdout, "data");
    const pid = Number(String(data));
    const pause = () => new Promise(setImmediate);
    while (readFileSync(`/proc/${parent.pid}/comm`, "utf8") !== "sleep\n") await pause();
    parent.stdin.end();
    while (!/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"))) await pause();
    writeFileSync(join(dir, "hub.lock"), `${pid} \n`);
    lockDataDir(dir)();
  } finally {
    parent.kill("SIGKILL");
  }
});
