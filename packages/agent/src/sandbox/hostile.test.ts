/** An engine that wants out, in every sandbox that runs here. */
import { execFileSync, spawn } from "node:child_process";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readLines } from "../body.ts";
import type { Child, Helper } from "../host.ts";
import { createNodeHost } from "../node-host.ts";
import {
  breed,
  callOut,
  dig,
  fillDisk,
  fillMemory,
  hide,
  PERL,
  readFiles,
  type Told,
} from "../testing/hostile.ts";
import { openSandbox } from "./open.ts";
import type { Sandbox, SandboxSettings, ToConfine } from "./sandbox.ts";
import type { Architecture } from "./syscalls.ts";

const MIB = 1024 ** 2;
const SCRATCH = 8 * MIB;
/** What is tried to be written to each place. */
const FILL = 12 * MIB;
const MEMORY = 96 * MIB;
const PROCESSES = 40;
const SECRET = `secret-${Math.random().toString(36).slice(2)}`;
const BOUNDS = { scratchBytes: SCRATCH, memoryBytes: MEMORY, processes: PROCESSES };

const host = createNodeHost({ env: { ...process.env, GFE_AGENT_TOKEN: SECRET, CUDA_TOKEN: SECRET } });
const kinds: { name: string; settings: SandboxSettings; must: boolean }[] = [
  { name: "bubblewrap", settings: { kind: "bwrap" }, must: true },
  { name: "Podman", settings: { kind: "podman" }, must: false },
  { name: "Podman with gVisor", settings: { kind: "podman", runtime: "runsc" }, must: false },
];
const found = await Promise.all(
  kinds.map(async (kind) => {
    if (!existsSync(PERL)) return { ...kind, sandbox: null, problem: `there is no ${PERL}` };
    try {
      return { ...kind, sandbox: await openSandbox(host, { ...kind.settings, ...BOUNDS }), problem: "" };
    } catch (error) {
      return { ...kind, sandbox: null, problem: (error as Error).message };
    }
  }),
);
for (const { name, sandbox, problem } of found)
  if (!sandbox) console.warn(`\n*** NOTHING HOSTILE IS TESTED IN ${name.toUpperCase()}: ${problem} ***\n`);

describe.skipIf(!existsSync(PERL))("a hostile engine without a sandbox", () => {
  it("reaches whom it wants: what shows that the others do not could fail", async () => {
    const directory = mkdtempSync(join(tmpdir(), "gfe-hostile-"));
    const listeners = await listen(directory);
    try {
      const sandbox = await openSandbox(host, { kind: "none" });
      const helper = callOut({ ...listeners.targets, world: false });
      const told = await toldBy(await sandbox.start({ helper, args: [], env: {}, files: [], gpu: false }));
      expect(told.at(-1)?.what).toBe("end");
      expect(new Set(listeners.calls)).toEqual(new Set(["tcp", "path", "abstract", "udp"]));
    } finally {
      listeners.close();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe.concurrent.each(found)(
  "a hostile engine in $name",
  ({ sandbox: opened, must, settings, problem }) => {
    // CI says so where bubblewrap itself runs.
    it("is tested where this machine can", () =>
      expect(must && process.env.GFE_CI_SANDBOX ? problem : "").toBe(""));

    describe.skipIf(!opened)("held back", () => {
      const sandbox = opened as Sandbox;
      const isGvisor = settings.runtime === "runsc";
      let directory: string;
      beforeAll(() => {
        directory = mkdtempSync(join(tmpdir(), "gfe-hostile-"));
      });
      afterAll(() => rmSync(directory, { recursive: true, force: true }));

      const confine = (helper: Helper, files: ToConfine["files"] = []) =>
        sandbox.start({ helper, args: [], env: {}, files, gpu: false });
      async function ask(helper: Helper, files?: ToConfine["files"]): Promise<Map<string, Told>> {
        const child = await confine(helper, files);
        const told = await toldBy(child);
        await child.ended;
        expect(told.at(-1)?.what).toBe("end");
        return new Map(told.map((one) => [one.what, one]));
      }
      const got = (told: Map<string, Told>) => [...told.values()].filter((one) => one.got);

      it("reads no file of its owner, and sees none of the agent's secrets", async () => {
        const ssh = join(directory, ".ssh");
        mkdirSync(ssh);
        const paths = [join(ssh, "id_ed25519"), join(directory, "node.key")];
        for (const path of paths) writeFileSync(path, SECRET);
        const model = join(directory, "model.gguf");
        writeFileSync(model, "weights");
        const told = await ask(
          readFiles([...paths, "/etc/shadow", "/root/.bashrc", "/model/m.gguf"], SECRET),
          [{ from: model, to: "/model/m.gguf" }],
        );
        expect(got(told)).toEqual([{ what: "/model/m.gguf", got: true, detail: "weights" }]);
      });

      it("reaches nobody: no port of this machine, no socket of it, no name, no address of the world", async () => {
        const listeners = await listen(directory);
        try {
          const told = await ask(callOut({ ...listeners.targets, world: true }));
          expect(got(told)).toEqual([]);
          expect(listeners.calls).toEqual([]);
        } finally {
          listeners.close();
        }
      });

      it("outlives neither its end nor the agent's, however it hides", async () => {
        const marker = `gfe-hidden-${Math.random().toString(36).slice(2)}`;
        const alive = isGvisor ? gvisorKernels(marker) : () => named(marker);
        const child = await confine(hide(marker));
        await firstOf(child);
        expect(alive().length).toBeGreaterThan(isGvisor ? 0 : 2);
        child.kill();
        await child.ended;
        await until(() => alive().length === 0);

        const agent = spawn(
          process.execPath,
          [join(import.meta.dirname, "../testing/start-hidden.ts"), JSON.stringify(settings), marker],
          { stdio: ["ignore", "pipe", "inherit"], env: process.env },
        );
        await new Promise((resolve) => agent.stdout.once("data", resolve));
        expect(alive().length).toBeGreaterThan(isGvisor ? 0 : 2);
        agent.kill("SIGKILL");
        await until(() => alive().length === 0);
      });

      it("fills no disk, and its scratch has a bound", async () => {
        const model = join(directory, "other.gguf");
        writeFileSync(model, "weights");
        const told = await ask(fillDisk(FILL), [{ from: model, to: "/model/m.gguf" }]);
        const written = got(told).map(({ what, detail }) => [what, Number(detail)] as const);
        // Containers have a little memory of their own at /dev, which their memory's bound counts too.
        const isContainer = settings.kind !== "bwrap";
        for (const [what, bytes] of written) {
          expect(["/tmp", "/dev/shm", ".", ...(isContainer ? ["/dev"] : [])]).toContain(what);
          expect([what, bytes <= (isContainer && what === "/dev" ? FILL : SCRATCH)]).toEqual([what, true]);
        }
      });

      it("takes no more memory than it may, where this machine lets it be capped", async () => {
        if (sandbox.status.memory === "not capped") {
          expect(sandbox.status.problems.map(({ what }) => what).join()).toContain("memory");
          return console.warn("\n*** MEMORY IS NOT CAPPED HERE: no control group may be written ***\n");
        }
        const child = await confine(fillMemory(512));
        const told = await toldBy(child);
        expect((await child.ended).exitCode).not.toBe(0);
        expect(Number(told.at(-1)?.detail ?? 0)).toBeLessThanOrEqual(MEMORY / MIB);
      });

      it("has no more processes than it may, where this machine lets them be counted", async () => {
        if (sandbox.status.processes.startsWith("not capped"))
          return console.warn("\n*** PROCESSES ARE NOT COUNTED HERE ***\n");
        const told = await ask(breed(200));
        expect(Number(told.get("processes")?.detail)).toBeLessThan(PROCESSES);
      });

      it("mounts, traces, keeps, loads and gains nothing", async () => {
        const told = await ask(dig(process.arch as Architecture));
        // gVisor's kernel answers by itself: what it grants is its own, never this machine's.
        const real = got(told).filter(({ what }) => !isGvisor || what.startsWith("write "));
        expect(real).toEqual([]);
        if (settings.kind === "bwrap")
          for (const call of ["ptrace", "mount", "keyctl", "bpf", "unshare", "clone"])
            expect([call, told.get(call)?.detail]).toEqual([call, "1"]);
      });
    });
  },
);

/** One who listens in every way, and counts who calls. */
async function listen(directory: string) {
  const path = join(directory, "listening.sock");
  const abstract = `gfe-hostile-${process.pid}-${Math.random()}`;
  const calls: string[] = [];
  const open = (name: string, options: object | string) =>
    new Promise<Server>((resolve) => {
      const server = createServer((socket) => {
        calls.push(name);
        socket.destroy();
      });
      server.listen(options as { port: number }, () => resolve(server));
    });
  const tcp = await open("tcp", { port: 0, host: "0.0.0.0" });
  const servers = [tcp, await open("path", path), await open("abstract", `\0${abstract}`)];
  const udp: UdpSocket = createSocket("udp4", () => calls.push("udp"));
  await new Promise<void>((resolve) => udp.bind(0, "0.0.0.0", resolve));
  const outside = Object.values(networkInterfaces()).flatMap((all) =>
    (all ?? [])
      .filter(({ family, internal }) => family === "IPv4" && !internal)
      .map(({ address }) => address),
  );
  const tcpPort = (tcp.address() as { port: number }).port;
  return {
    calls,
    targets: { tcpPort, udpPort: udp.address().port, abstract, path, addresses: ["127.0.0.1", ...outside] },
    close() {
      for (const server of servers) server.close();
      udp.close();
    },
  };
}

async function toldBy(child: Child): Promise<Told[]> {
  const told: Told[] = [];
  const errors: string[] = [];
  void (async () => {
    for await (const chunk of child.stderr) errors.push(new TextDecoder().decode(chunk));
  })();
  for await (const lines of readLines({ body: child.stdout }, { lineBytes: MIB, streamBytes: 64 * MIB }))
    told.push(...lines.map((line) => JSON.parse(line) as Told));
  if (told.length === 0) throw new Error(errors.join(""));
  return told;
}

async function firstOf(child: Child): Promise<void> {
  for await (const _ of child.stdout) return;
  throw new Error("it said nothing");
}

/** Processes of this machine that call themselves so. */
const named = (marker: string): string[] => processes((words) => words.startsWith(marker));

function processes(match: (words: string) => boolean): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return match(readFileSync(`/proc/${pid}/cmdline`, "utf8"));
    } catch {
      return false;
    }
  });
}

/** What is in gVisor is no process of this machine: its kernel is, and has its container's id in its words. */
function gvisorKernels(marker: string): () => string[] {
  const ids = new Set<string>();
  return () => {
    const listed = execFileSync("podman", ["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Command}}"], {
      encoding: "utf8",
      maxBuffer: 16 * MIB,
    });
    for (const entry of listed.split(/^(?=[0-9a-f]{64} )/m))
      if (entry.includes(marker)) ids.add(entry.slice(0, 64));
    return [...ids].flatMap((id) => processes((words) => words.startsWith("runsc") && words.includes(id)));
  };
}

async function until(true_: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!true_()) {
    if (performance.now() > deadline) throw new Error("it did not come true");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
