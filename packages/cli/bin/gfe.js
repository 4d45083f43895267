#!/usr/bin/env node
// Runs on any Node from 20 on: the program itself wants Node 24, which comes with the dependencies.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));

function node24() {
  if (Number(process.versions.node.split(".")[0]) >= 24) return process.execPath;
  const root = dirname(createRequire(import.meta.url).resolve("node/package.json"));
  const path = join(root, "bin", process.platform === "win32" ? "node.exe" : "node");
  if (existsSync(path)) return path;
  console.error(
    "gfe needs Node 24. Run `npm install` in the project's folder once more, or install Node 24.",
  );
  process.exit(1);
}

const child = spawn(node24(), [main, ...process.argv.slice(2)], { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
