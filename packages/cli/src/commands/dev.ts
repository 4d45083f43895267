import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { type Credentials, post, signInOrRegister } from "../demo/people.ts";
import { Failure, reporting } from "../failure.ts";
import { untilStopped } from "../signals.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const WEB_PORT = 5173;
const START_TIMEOUT_MS = 60_000;

export function addDev(program: Command): void {
  program
    .command("dev")
    .description("for working on it: hub with reload, two scripted nodes, the dashboard with reload")
    .action(
      reporting(async () => {
        const port = process.env.PORT ?? "8080";
        const dataDir = process.env.GFE_DATA_DIR ?? join(ROOT, ".gfe", "dev");
        const hubUrl = `http://127.0.0.1:${port}`;
        const children: ChildProcess[] = [];
        const run = (
          name: string,
          args: string[],
          options: { cwd?: string; env?: Record<string, string> } = {},
        ) => {
          const child = spawn(process.execPath, args, {
            stdio: "inherit",
            cwd: options.cwd ?? ROOT,
            env: { ...process.env, ...options.env },
          });
          child.once("exit", (code) => code && console.error(`${name} ended with ${code}`));
          children.push(child);
        };
        run(
          "hub",
          [
            "--watch-path=packages/hub/src",
            "--watch-path=packages/ledger/src",
            "--watch-path=packages/protocol/src",
            "--watch-preserve-output",
            MAIN,
            "hub",
            "--no-build",
          ],
          {
            env: {
              GFE_DATA_DIR: dataDir,
              PORT: port,
              GFE_TRUSTED_ORIGINS: `http://localhost:${WEB_PORT},http://127.0.0.1:${WEB_PORT}`,
              GFE_LOGINS_MAX: "100",
            },
          },
        );
        await untilReady(hubUrl);
        const credentials = keptCredentials(dataDir);
        const provider = await signInOrRegister(hubUrl, "developer", credentials);
        for (const name of ["node-a", "node-b"]) {
          const { secret } = await post<{ secret: string }>(hubUrl, provider, "/api/v1/agent-tokens", {
            label: name,
          });
          run(
            name,
            [
              MAIN,
              "up",
              "--hub",
              hubUrl,
              "--scripted",
              "--name",
              name,
              "--config-dir",
              join(dataDir, "nodes", name),
            ],
            { env: { GFE_AGENT_TOKEN: secret } },
          );
        }
        run(
          "web",
          ["node_modules/vite/bin/vite.js", "--port", String(WEB_PORT)].map((arg, i) =>
            i === 0 ? `${ROOT}${arg}` : arg,
          ),
          { cwd: `${ROOT}packages/web`, env: { GFE_DEV_HUB: hubUrl } },
        );
        console.log(
          `\nDashboard with reload: http://localhost:${WEB_PORT}   hub: ${hubUrl}   Ctrl-C stops all\nSign in as its operator, who owns the nodes: ${credentials.email}, ${credentials.password}\n`,
        );
        await untilStopped(async () => {
          const running = children.filter(
            ({ exitCode, signalCode }) => exitCode === null && signalCode === null,
          );
          const ends = running.map((child) => new Promise((ended) => child.once("exit", ended)));
          for (const child of running.reverse()) child.kill("SIGTERM");
          await Promise.all(ends);
        });
      }),
    );
}

/** Of the account that owns the nodes: kept beside the data, for the next time. */
function keptCredentials(dataDir: string): Credentials {
  const path = join(dataDir, "development-account.json");
  if (existsSync(path)) return JSON.parse(readFileSync(path, "utf8")) as Credentials;
  const credentials = { email: "developer@gfe.invalid", password: randomUUID() };
  writeFileSync(path, JSON.stringify(credentials), { mode: 0o600 });
  return credentials;
}

async function untilReady(hubUrl: string): Promise<void> {
  for (const deadline = Date.now() + START_TIMEOUT_MS; Date.now() < deadline; ) {
    if (
      await fetch(`${hubUrl}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      )
    )
      return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Failure(`the hub did not answer at ${hubUrl}`);
}
