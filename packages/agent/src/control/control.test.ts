/** A running agent's endpoint and journal, on real files and a real socket. */
import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { startAgent } from "../agent.ts";
import { createScriptedEngine, type Script } from "../engines/scripted.ts";
import { EndpointTaken, type Host } from "../host.ts";
import { createNodeHost } from "../node-host.ts";
import { attemptId, hubOf } from "../testing/nodes.ts";
import { askAgent, followAgent } from "./client.ts";
import { type Control, startControl } from "./control.ts";
import { CONTROL_LIMITS, controlEndpoint } from "./endpoint.ts";
import { createJournal, JOURNAL_LIMITS, readJournal } from "./journal.ts";
import { daysOf, hoursOf } from "./owner.ts";
import type { AgentRecord } from "./records.ts";
import { readSettings } from "./settings.ts";

const clean: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of clean.splice(0).reverse()) await step();
});

function newHost(): Host {
  const directory = mkdtempSync(join(tmpdir(), "gfe-control-"));
  clean.push(() => rmSync(directory, { recursive: true, force: true }));
  return createNodeHost({ configDir: directory, stateDir: join(directory, "state") });
}

const controlOf = async (host: Host, hub = "http://127.0.0.1:9"): Promise<Control> => {
  const control = await startControl({ host, hub, token: "gfe_at_test", name: "attic", abort() {} });
  clean.push(() => control.close());
  return control;
};

/** An agent with its endpoint, as `gfe up` makes it. */
async function running(script: Script = {}) {
  const host = newHost();
  const hub = await hubOf();
  const control = await controlOf(host, hub.url);
  const agent = await startAgent({
    ...{ host, hubUrl: hub.url, token: "gfe_at_test", gpus: [] },
    engines: [createScriptedEngine(host, script)],
    onEvent: control.onEvent,
  });
  control.joined(agent);
  clean.push(() => agent.stop());
  return { host, hub, control, agent, connection: await hub.joined() };
}

const statusOf = async (host: Host) => {
  const asked = await askAgent(host);
  if (asked.type !== "status") throw new Error(JSON.stringify(asked));
  return asked.status;
};

describe("the endpoint of a running agent", () => {
  it("tells what runs, how fast, and what was served", async () => {
    const { host, connection } = await running({ deltas: 1000, paceMs: 5 });
    const attempt = connection.start({ attempt: attemptId(), body: { messages: [], max_tokens: 1000 } });
    await attempt.delivered(10);
    const status = await statusOf(host);
    expect(status).toMatchObject({
      ...{ name: "attic", node_id: "node_test", draining: false, process_id: process.pid },
      connection: { state: "joined" },
      engines: [{ kind: "scripted", error: null }],
      offers: [{ model: "scripted", running: 1, engine: "scripted" }],
      attempts: [{ attempt: attempt.id, model: "scripted" }],
    });
    const [shown] = status.attempts;
    expect(shown!.tokens).toBeGreaterThanOrEqual(10);
    expect(shown!.tokens_s).toBeGreaterThan(1);
    connection.send({ type: "attempt.cancel", attempt: attempt.id, reason: "test" });
    await attempt.end;
    await expect.poll(async () => (await statusOf(host)).served).toMatchObject({ done: 0, failed: 1 });
  });

  it("pauses it, for a while or until it is resumed, and keeps the connection", async () => {
    const { host, connection } = await running({ deltas: 50, paceMs: 5 });
    const attempt = connection.start({ attempt: attemptId() });
    await attempt.delivered(1);
    const asked = await askAgent(host, "/pause", {});
    expect(asked).toMatchObject({
      status: { paused: [{ code: "owner_paused" }], connection: { state: "joined" } },
    });
    expect((await connection.frame("drain")).draining).toBe(true);
    expect((await attempt.end).type).toBe("attempt.done"); // what ran goes on to its end
    expect(await connection.start({ attempt: attemptId() }).end).toMatchObject({ code: "draining" });
    expect(await askAgent(host, "/resume", {})).toMatchObject({ status: { paused: [] } });
    await connection.frame("drain", ({ draining }) => !draining);
    expect(
      (await connection.start({ attempt: attemptId(), body: { messages: [], max_tokens: 2 } }).end).type,
    ).toBe("attempt.done");
    await askAgent(host, "/pause", { for_s: 1 });
    await expect.poll(async () => (await statusOf(host)).paused, { timeout: 3_000 }).toEqual([]);
    expect(await askAgent(host, "/pause", { for_s: 0 })).toMatchObject({
      message: expect.stringMatching(/^for_s: /),
    });
  });

  it("keeps the limits and the schedule that it is told, and announces its slots anew", async () => {
    const { host, connection, agent } = await running({ models: [{ name: "story", slots: 4 }] });
    expect(await askAgent(host, "/limits", { slots: 2, temperature_c: 80 })).toMatchObject({
      status: { slots: 2 },
    });
    await connection.frame("announce", ({ announcement }) => announcement.slots === 2);
    expect(await askAgent(host, "/limits", { slots: 0 })).toMatchObject({
      message: expect.stringMatching(/^slots: /),
    });
    expect(
      await askAgent(host, "/schedule", { windows: [{ days: "monday", from: "1", to: "2" }] }),
    ).toMatchObject({
      message: expect.stringMatching(/^windows\.0\.days: must be days such as mon-fri/),
    });
    await askAgent(host, "/schedule", { windows: [{ days: "mon-fri", from: "22:00", to: "07:00" }] });
    expect(await readSettings(host)).toMatchObject({
      limits: { slots: 2, temperature_c: 80 },
      schedule: { on: true, windows: [{ days: "mon-fri", from: "22:00", to: "07:00" }] },
    });
    const tomorrow = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"][(new Date().getDay() + 2) % 7]!;
    const schedule = { windows: [{ days: tomorrow, from: "10:00", to: "11:00" }] };
    expect(await askAgent(host, "/schedule", schedule)).toMatchObject({
      status: { paused: [{ code: "schedule" }] },
    });
    await connection.frame("drain", ({ draining }) => draining);
    expect(await askAgent(host, "/schedule", { on: false })).toMatchObject({ status: { paused: [] } });
    await connection.frame("drain", ({ draining }) => !draining);
    expect(await askAgent(host, "/limits", { slots: null })).toMatchObject({ status: { slots: 4 } });
    expect(await askAgent(host, "/limits", { engine_slots: { scripted: 1 } })).toMatchObject({
      status: { slots: 1, offers: [{ slots: 1 }] },
    });
    expect(agent.running).toBe(0);
  });

  it("lets its owner drain it, and says that nothing answers after its end", async () => {
    const { host, control, agent, connection } = await running();
    const asked = await askAgent(host, "/drain", {});
    expect(asked.type).toBe("status");
    expect(await agent.done).toEqual({ type: "drained" });
    expect((await connection.frame("drain")).draining).toBe(true);
    await control.close();
    expect(await askAgent(host)).toEqual({ type: "not_running" });
    expect(existsSync(controlEndpoint(host))).toBe(false);
  });

  it("refuses what it does not know and what is malformed, by name", async () => {
    const host = newHost();
    await controlOf(host);
    expect(await askAgent(host, "/nonsense", {})).toEqual({
      type: "refused",
      message: "POST /nonsense is nothing that this agent does",
    });
    expect(await askAgent(host, "/drain", { now: "maybe" })).toEqual({
      type: "refused",
      message: expect.stringMatching(/^now: /),
    });
  });

  it("reads no body beyond its bound", async () => {
    const host = newHost();
    await controlOf(host);
    expect(await askAgent(host, "/drain", { now: "x".repeat(CONTROL_LIMITS.bodyBytes) })).toEqual({
      type: "refused",
      message: `the body is larger than ${CONTROL_LIMITS.bodyBytes} bytes`,
    });
    expect((await askAgent(host)).type).toBe("status"); // it still serves
  });

  it("tells what happened and what happens, each once and in order, until it ends", async () => {
    const { host, control, connection, agent } = await running();
    const seen: AgentRecord[] = [];
    const records = await followAgent(host);
    const followed = (async () => {
      for await (const record of records) seen.push(record);
    })();
    await connection.start({ attempt: attemptId() }).end;
    await agent.drain();
    await control.close();
    await followed;
    expect(seen.map(({ type }) => type)).toEqual([
      ...["engines", "joined", "attempt.started", "attempt.ended", "draining", "ended"],
    ]);
  });

  it.skipIf(process.getuid?.() !== 0)("lets no other user in", async () => {
    const host = newHost();
    await controlOf(host);
    const path = controlEndpoint(host);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(host.directories.state).mode & 0o777).toBe(0o700);
    const ask = `require("node:http").get({ socketPath: ${JSON.stringify(path)}, path: "/status" }, (r) => { console.log(r.statusCode); process.exit(); }).on("error", (e) => console.log(e.code));`;
    const asked = (uid: number) =>
      new Promise<string>((resolve) => {
        // Nobody's way to the program itself may be closed as well: it gets it by its standard input.
        const child = spawn(process.execPath, ["-"], {
          uid,
          gid: uid,
          stdio: ["pipe", "pipe", "pipe"],
          cwd: "/",
        });
        let said = "";
        child.on("error", (error: NodeJS.ErrnoException) => resolve(`no start: ${error.code}`));
        child.stdout.on("data", (data) => {
          said += data;
        });
        child.stderr.on("data", (data) => {
          said += data;
        });
        child.on("close", () => resolve(said.trim()));
        child.stdin.end(ask);
      });
    expect(await asked(0)).toBe("200");
    expect(await asked(65_534)).toMatch(/EACCES|no start: EACCES/);
  });
});

describe("one agent a state directory", () => {
  it("is told to the second one", async () => {
    const host = newHost();
    await controlOf(host);
    await expect(controlOf(host)).rejects.toThrow(EndpointTaken);
    expect((await askAgent(host)).type).toBe("status");
  });

  it("holds where several start in the same moment", async () => {
    const host = newHost();
    const starts = await Promise.allSettled(Array.from({ length: 6 }, () => controlOf(host)));
    expect(starts.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const start of starts)
      if (start.status === "rejected") expect(start.reason).toBeInstanceOf(EndpointTaken);
    expect((await askAgent(host)).type).toBe("status");
  });

  it("starts over the socket that a killed agent left", async () => {
    const host = newHost();
    await host.files.makeDirectory(host.directories.state, 0o700);
    const path = controlEndpoint(host);
    const dead = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
    await new Promise((resolve) => spawn(process.execPath, ["-e", dead]).on("close", resolve));
    expect(existsSync(path)).toBe(true);
    expect(await askAgent(host)).toEqual({ type: "not_running" });
    await controlOf(host);
    expect((await askAgent(host)).type).toBe("status");
  });

  it("takes a program that does not answer for a living one", async () => {
    const host = newHost();
    await host.files.makeDirectory(host.directories.state, 0o700);
    const mute = createServer(() => {});
    await new Promise<void>((resolve) => mute.listen(controlEndpoint(host), resolve));
    clean.push(() => new Promise((resolve) => mute.close(resolve)));
    await expect(controlOf(host)).rejects.toThrow(EndpointTaken);
  });

  it("leaves a directory that was there as it is, and refuses one in /tmp that others can enter", async () => {
    const host = newHost();
    mkdirSync(host.directories.state);
    chmodSync(host.directories.state, 0o755);
    await controlOf(host);
    expect(statSync(host.directories.state).mode & 0o777).toBe(0o755);
    expect(statSync(controlEndpoint(host)).mode & 0o777).toBe(0o600);
    const far = createNodeHost({
      configDir: host.directories.config,
      stateDir: join(host.directories.config, "y".repeat(120)),
    });
    const foreign = dirname(controlEndpoint(far));
    clean.push(() => rmSync(foreign, { recursive: true, force: true }));
    mkdirSync(foreign);
    chmodSync(foreign, 0o777);
    await expect(controlOf(far)).rejects.toThrow(/is open to other users/);
  });

  it("finds a shorter place where the directory's name is too long for a socket", async () => {
    const directory = mkdtempSync(join(tmpdir(), "gfe-control-"));
    clean.push(() => rmSync(directory, { recursive: true, force: true }));
    const host = createNodeHost({ configDir: directory, stateDir: join(directory, "x".repeat(120)) });
    expect(controlEndpoint(host).length).toBeLessThan(104);
    await controlOf(host);
    expect((await askAgent(host)).type).toBe("status");
    expect(controlEndpoint(host)).not.toBe(controlEndpoint(newHost()));
    clean.push(() => rmSync(dirname(controlEndpoint(host)), { recursive: true, force: true }));
  });
});

describe("the journal", () => {
  it("keeps no prompt, no answer and no token", async () => {
    const { host, control, agent, connection } = await running({ text: ["a secret answer"] });
    await connection.start({
      attempt: attemptId(),
      body: { messages: [{ role: "user", content: "a secret prompt" }], max_tokens: 5 },
    }).end;
    await agent.drain();
    await control.close();
    const text = readFileSync(join(host.directories.state, "events.jsonl"), "utf8");
    expect(text).toContain("attempt.ended");
    for (const word of ["secret", "gfe_at_"]) expect(text).not.toContain(word);
    expect(statSync(join(host.directories.state, "events.jsonl")).mode & 0o777).toBe(0o600);
  });

  it("is two files of bounded size, of which the last records can be read", async () => {
    const host = newHost();
    const journal = createJournal(host);
    const line = { at_ms: 1, type: "warning", message: "x".repeat(50_000) };
    for (let i = 0; i < 60; i++) {
      journal.put({ ...line, at_ms: i });
      if (i % 4 === 3) await journal.close();
    }
    await journal.close();
    for (const name of ["events.jsonl", "events.1.jsonl"])
      expect(statSync(join(host.directories.state, name)).size).toBeLessThanOrEqual(JOURNAL_LIMITS.fileBytes);
    expect((await readJournal(host, 30))!.map(({ at_ms }) => at_ms)).toEqual(
      Array.from({ length: 30 }, (_, i) => 30 + i),
    );
    expect(journal.last.at(-1)!.at_ms).toBe(59);
  });

  it("goes on after a crash in the middle of a line", async () => {
    const host = newHost();
    const journal = createJournal(host);
    journal.put({ at_ms: 1, type: "joined" });
    await journal.close();
    const path = join(host.directories.state, "events.jsonl");
    writeFileSync(path, `${readFileSync(path, "utf8")}{"at_ms":2,"ty`);
    const next = createJournal(host);
    next.put({ at_ms: 3, type: "joined" });
    await next.close();
    expect((await readJournal(host, 10))!.map(({ at_ms }) => at_ms)).toEqual([1, 3]);
  });

  it("tells once that the disk takes nothing, and the agent goes on", async () => {
    const warned: string[] = [];
    const broken = newHost();
    const host: Host = {
      ...broken,
      log: { info() {}, warn: (_fields, message) => void warned.push(message) },
      files: { ...broken.files, append: () => Promise.reject(new Error("ENOSPC: no space left on device")) },
    };
    const journal = createJournal(host);
    for (let i = 0; i < 5; i++) {
      journal.put({ at_ms: i, type: "joined" });
      await new Promise((resolve) => setImmediate(resolve));
    }
    await journal.close();
    expect(warned).toEqual(["events are not kept: ENOSPC: no space left on device"]);
    expect(journal.last).toHaveLength(5);
  });
});

it("a connection that sends no whole request is cut", async () => {
  const host = newHost();
  const serving = await host.serve(
    join(host.directories.config, "a.sock"),
    async () => ({ status: 200, body: "{}" }),
    {
      ...CONTROL_LIMITS,
      requestMs: 100,
    },
  );
  clean.push(() => serving.close());
  const sent = request({
    socketPath: join(host.directories.config, "a.sock"),
    method: "POST",
    headers: { "content-length": 10 },
  });
  const ended = new Promise((resolve) =>
    sent.on("error", resolve).on("response", (response) => resolve(response.statusCode)),
  );
  sent.write("1");
  expect([408, "ECONNRESET"]).toContain(((await ended) as { code?: string }).code ?? (await ended));
});

describe("days and hours", () => {
  it.each<[string, number[] | null]>([
    ["daily", [0, 1, 2, 3, 4, 5, 6]],
    ["mon-fri", [0, 1, 2, 3, 4]],
    ["fri-mon", [0, 4, 5, 6]],
    ["sat,sun", [5, 6]],
    ["wed", [2]],
    ["mon-", null],
    ["mon-tue-wed", null],
    ["", null],
    ["someday", null],
  ])("%j are days as a person means them", (text, days) => {
    expect(daysOf(text)).toEqual(days);
  });

  it.each<[string, object | null]>([
    ["22:00-07:00", { from: "22:00", to: "07:00" }],
    ["00:00-24:00", { from: "00:00", to: "24:00" }],
    ["24:00-07:00", null],
    ["25:00-07:00", null],
    ["7-9", null],
    ["07:00-07:00", null],
  ])("%j are hours", (text, hours) => {
    expect(hoursOf(text)).toEqual(hours);
  });
});
