/** The provider's programs where their machine is in the way: a home that takes nothing, a full disk, a company's proxy. */
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Server as NetServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { buildSlimHere, canBuildSlim } from "../../../scripts/agents/test-builds.ts";
import { type AgentProcess, startAgentProcess } from "./agent-process.ts";
import { mountSmallDisk } from "./faults/small-disk.ts";
import { type PacedEngine, startPacedEngine } from "./paced-engine.ts";
import { type Person, startWorld, type World } from "./world.ts";

const MAIN = fileURLToPath(new URL("../../cli/src/main.ts", import.meta.url));
const BUILD_MS = 600_000;
const TOKENS = 5;
const ANSWER = Array.from({ length: TOKENS }, (_, i) => ` w${i}`).join("");
const DISK_BYTES = 8 * 1024 * 1024;

const probe = mountSmallDisk(DISK_BYTES);
probe?.unmount();
if (!probe) console.warn("\n*** NO FULL DISK IS TESTED UNDER AN AGENT: only root may mount one ***\n");

const programs = [
  { name: "the agent on Node", isThere: true, build: async () => [process.execPath, MAIN] as const },
  {
    name: "the slim executable",
    isThere: await canBuildSlim("the slim executable behind a proxy"),
    build: async () => [await buildSlimHere("agent")] as const,
  },
];

let world: World;
let provider: Person;
let consumer: Person;
let engine: PacedEngine;
let directory: string;

beforeAll(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "10000" });
  directory = mkdtempSync(join(tmpdir(), "gfe-robust-"));
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
  engine = await startPacedEngine("quick", TOKENS, 0);
}, 60_000);
afterAll(async () => {
  await engine?.close();
  await world?.end();
  if (directory) rmSync(directory, { recursive: true, force: true });
});

async function answer(): Promise<string | undefined> {
  const { body } = await world.call("POST", "/v1/chat/completions", {
    as: consumer,
    body: { model: "quick", messages: [{ role: "user", content: "Hello" }] },
  });
  return body.choices?.[0]?.message.content;
}

for (const { name, isThere, build } of programs)
  describe.skipIf(!isThere)(name, () => {
    let program: readonly [string, ...string[]];
    const agents: AgentProcess[] = [];
    beforeAll(async () => {
      program = await build();
    }, BUILD_MS);
    afterEach(async () => {
      for (const agent of agents.splice(0)) {
        agent.kill("SIGKILL");
        await agent.ended;
      }
    });
    afterAll(() => {
      if (program?.length === 1) rmSync(dirname(program[0]), { recursive: true, force: true });
    });

    async function joinNode(home: string, more: { hubUrl?: string; env?: Record<string, string> } = {}) {
      const agent = await startAgentProcess(program, {
        ...{ hubUrl: world.hub.url, token: provider.agentToken, home, engines: [engine.url] },
        ...more,
      });
      agents.push(agent);
      return agent;
    }

    it.runIf(process.platform === "linux")(
      "says which directory takes nothing, and what to do, before it asks for anything",
      async () => {
        const [command, ...args] = program;
        const env = { PATH: process.env.PATH, HOME: directory, GFE_AGENT_TOKEN: provider.agentToken };
        // Nobody can make a directory there, not even root.
        const up = ["up", "--hub", world.hub.url, "--no-detect", "--json", "--config-dir", "/dev/null/gfe"];
        const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
          execFile(command, [...args, ...up], { env, timeout: 15_000 }, (error, _out, stderr) =>
            resolve({ code: error?.code, stderr }),
          );
        });
        expect(stderr).toMatch(/^gfe: \/dev\/null\/gfe\S* cannot be written .*--config-dir DIR/m);
        expect(code).toBe(1);
      },
      30_000,
    );

    it.runIf(probe !== null)(
      "serves on when its disk is full, and joins again when its hub was away",
      async () => {
        const disk = mountSmallDisk(DISK_BYTES)!;
        try {
          const agent = await joinNode(disk.path);
          disk.fill();
          expect(await answer()).toBe(ANSWER);
          const from = agent.events.length;
          await world.restart();
          await agent.told("joined", from);
          expect(await answer()).toBe(ANSWER);
        } finally {
          for (const agent of agents.splice(0)) {
            agent.kill("SIGKILL");
            await agent.ended;
          }
          disk.unmount();
        }
      },
      60_000,
    );

    it("joins and serves through a company's proxy, with the company's own authority", async () => {
      const company = await startCompany(Number(new URL(world.hub.url).port));
      try {
        await joinNode(join(directory, `proxy-${program.length}`), {
          hubUrl: "https://hub.test:8443",
          env: { HTTPS_PROXY: company.proxyUrl, NODE_EXTRA_CA_CERTS: company.authority },
        });
        expect(await answer()).toBe(ANSWER);
        expect(new Set(company.asked)).toEqual(new Set(["hub.test:8443"]));
      } finally {
        await company.close();
      }
    }, 60_000);
  });

/** A proxy that alone knows the way to hub.test, where a certificate of an own authority is shown before the hub. */
async function startCompany(hubPort: number) {
  const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  const subject = ["-subj", "/CN=hub.test", "-addext", "subjectAltName=DNS:hub.test"];
  const made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", ...made, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  const open = new Set<{ destroy(): void }>();
  const track = <T extends { destroy(): unknown; on(name: "error", run: () => void): unknown }>(
    socket: T,
  ) => {
    open.add(socket as unknown as { destroy(): void });
    socket.on("error", () => {});
    return socket;
  };
  const tls = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (client) => {
    const upstream = track(connect(hubPort, "127.0.0.1"));
    upstream.on("close", () => client.destroy());
    track(client).on("close", () => upstream.destroy());
    client.pipe(upstream).pipe(client);
  });
  const tlsPort = await listen(tls);
  const asked: string[] = [];
  const proxy = createServer((_request, response) => response.writeHead(405).end());
  proxy.on("connect", (request, client) => {
    asked.push(request.url ?? "");
    const upstream = track(
      connect(tlsPort, "127.0.0.1", () => {
        client.write("HTTP/1.1 200 Connection Established\r\n\r\n");
        upstream.pipe(client).pipe(upstream);
      }),
    );
    upstream.on("close", () => client.destroy());
    track(client).on("close", () => upstream.destroy());
  });
  const proxyUrl = `http://127.0.0.1:${await listen(proxy)}`;
  return {
    ...{ proxyUrl, asked, authority: cert },
    async close() {
      for (const socket of open) socket.destroy();
      await Promise.all([tls, proxy].map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}

const listen = (server: Server | NetServer): Promise<number> =>
  new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)),
  );
