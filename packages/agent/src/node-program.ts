/** The program on Node: one file with Node in it, a script with a shebang line, a package, or the sources. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { realpathSync } from "node:fs";
import { chmod, copyFile, link, open, rename, rm } from "node:fs/promises";
import { BUILD } from "./build.ts";
import type { Program } from "./program.ts";

const SYSTEMS: Partial<Record<NodeJS.Platform, "linux" | "windows" | "macos">> = {
  ...{ linux: "linux", win32: "windows", darwin: "macos" },
};
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Whether the code is inside of what runs it. */
function isPacked(): boolean {
  const sea = process.getBuiltinModule?.("node:sea") as { isSea(): boolean } | undefined;
  return "bun" in process.versions || sea?.isSea() === true;
}

export function createNodeProgram(): Program {
  const script = process.argv[1] ?? "";
  const isOne = BUILD.kind === "executable";
  const command: [string, ...string[]] =
    isOne && isPacked()
      ? [process.execPath]
      : isOne
        ? [realpathSync(script)]
        : [process.execPath, realpathSync(script || process.execPath)];
  const args = process.argv.slice(2);
  const os = SYSTEMS[process.platform];
  const { arch } = process;
  return {
    kind: BUILD.kind,
    command,
    args,
    target: isOne && os && (arch === "x64" || arch === "arm64") ? { os, arch, kind: "full" } : null,
    replace: (file, previous) => replaceFile(command[0], file, previous),
    restart: () => becomeAnother(command, args),
  };
}

/** A copy beside `path` takes its place; both names are of one file system then. */
export async function replaceFile(path: string, file: string, previous: string): Promise<void> {
  const beside = `${path}.${randomBytes(6).toString("hex")}.new`;
  try {
    await copyFile(file, beside);
    await chmod(beside, 0o755);
    const handle = await open(beside, "r");
    await handle.sync().finally(() => handle.close()); // a power cut must not leave an empty program
    await rm(previous, { force: true });
    if (process.platform === "win32")
      await rename(path, previous); // a program that runs can be renamed, and not overwritten
    else await link(path, previous).catch(() => copyFile(path, previous));
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

function becomeAnother(command: readonly [string, ...string[]], args: readonly string[]): Promise<number> {
  const [path, ...rest] = command;
  const { execve } = process as { execve?: (path: string, args: string[], env: object) => never };
  if (execve && process.platform !== "win32") {
    process.removeAllListeners("warning"); // that it is new in Node is nothing to its user
    process.on("warning", () => {});
    execve(path, [...command, ...args], process.env);
  }
  return new Promise((resolve) => {
    const child = spawn(path, [...rest, ...args], { stdio: "inherit", windowsHide: true });
    const pass = (signal: NodeJS.Signals) => void child.kill(signal);
    for (const signal of SIGNALS) process.on(signal, pass);
    child.once("error", () => resolve(1));
    child.once("exit", (code) => resolve(code ?? 1));
  });
}
