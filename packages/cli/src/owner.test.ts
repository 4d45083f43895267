/** What the owner of a machine does with its agent: each command a process of its own, against a real hub. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { agentCommands, agentRuns, createNodeHost, parseLine } from "@gfe/agent";
import { type Hub, parseConfig, startHub } from "@gfe/hub";
import { createTestDatabase } from "@gfe/hub/testing";
import { createClient, type SdkClient } from "@gfe/sdk";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Ended, Gfe, gfe } from "./testing/gfe.ts";
import { hasTerminals, TestTerminal } from "./testing/terminal.ts";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const BIN = fileURLToPath(new URL("../bin/gfe.js", import.meta.url));

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let hub: Hub;
const dataDir = mkdtempSync(join(tmpdir(), "gfe-owner-"));
let provider: SdkClient;
let key: string;
/** Of the agent of one test. */
let directory: string;

beforeAll(async () => {
  database = await createTestDatabase();
  const parsed = parseConfig({
    ...{ PORT: "0", DATABASE_URL: database.url, GFE_DATA_DIR: dataDir, GFE_LOG_LEVEL: "silent" },
    ...{ GFE_DRAIN_MS: "500", GFE_CANARY_INTERVAL: "0", GFE_QUEUE_WAIT_MS: "300" },
  });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  hub = await startHub(parsed.config);
  provider = await signUp("p@example.test");
  const consumer = await signUp("c@example.test");
  key = (await consumer.createKey({ label: "k", scopes: ["inference"] })).secret;
});
afterAll(async () => {
  await hub?.stop();
  await database?.drop();
  rmSync(dataDir, { recursive: true, force: true });
});
beforeEach(() => {
  directory = mkdtempSync(join(dataDir, "agent-"));
});

async function signUp(email: string): Promise<SdkClient> {
  const answer = await fetch(`${hub.url}/api/auth/sign-up/email`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: hub.url },
    body: JSON.stringify({ name: "p", email, password: "correct horse battery" }),
  });
  return createClient({ baseUrl: hub.url, apiKey: answer.headers.get("set-auth-token") ?? "" });
}

const ask = () =>
  fetch(`${hub.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify({ model: "scripted", messages: [{ role: "user", content: "hi" }], max_tokens: 8 }),
  });

/** A command as another terminal gives it, in this process: starting one costs more than most commands do. */
async function own(...args: string[]): Promise<Ended> {
  const parsed = parseLine(agentCommands, args, {});
  if (parsed.type !== "run") throw new Error(JSON.stringify(parsed));
  const said = { stdout: "", stderr: "" };
  const code = await agentRuns[parsed.command.name]!(
    createNodeHost({ env: {}, configDir: directory, stateDir: directory }),
    parsed.options,
    {
      line: (text) => {
        said.stdout += `${text}\n`;
      },
      error: (text) => {
        said.stderr += `${text}\n`;
      },
    },
  );
  return { code, ...said };
}

const upArgs = () => ["up", "--hub", hub.url, "--scripted", "--name", "attic", "--config-dir", directory];

/** An agent that got its token as one that was approved in the browser has it: kept in its own files. */
async function keptToken(): Promise<void> {
  const { secret } = await provider.createAgentToken("attic");
  writeFileSync(join(directory, "hubs.json"), JSON.stringify({ [hub.url]: { agent_token: secret } }), {
    mode: 0o600,
  });
}

describe("an agent that runs", () => {
  let agent: Gfe;
  beforeEach(async () => {
    await keptToken();
    agent = new Gfe(upArgs());
    await agent.printed(/Joined as node_/);
  });
  afterEach(() => agent.stop());

  test("is seen, heard, examined and drained from another terminal", async () => {
    expect((await ask()).status).toBe(200);
    const status = await gfe(["status", "--config-dir", directory]);
    expect([status.code, status.stderr]).toEqual([0, ""]);
    expect(status.stdout).toMatch(/^State +serving: waiting for work$/m);
    expect(status.stdout).toMatch(/^Served +1 answer, \d+ tokens since its start$/m);

    // The first look asks the hub; what it earned is 1 credit less the fee.
    await expect
      .poll(async () => JSON.parse((await own("status", "--json")).stdout).earnings, {
        timeout: 10_000,
        interval: 300,
      })
      .toMatchObject({ today_micro: "950000", since_start_micro: "950000", jobs_today: 1 });

    expect((await own("pause", "10m")).stdout).toBe("Paused for 10 m 0 s.\n");
    expect((await ask()).status).not.toBe(200);
    expect((await own("status")).stdout).toMatch(/^State +paused: you paused it; .+ for 9 m 5\d s more$/m);
    expect((await own("resume")).stdout).toBe("Serving again.\n");
    expect((await ask()).status).toBe(200);

    const logs = await own("logs");
    expect(logs.code).toBe(0);
    expect(logs.stdout).toMatch(/^\S+Z {2}Joined as node_/m);
    expect(logs.stdout).toMatch(/✓ scripted: \d+ \+ \d+ tokens/);

    const doctor = await own("doctor", "--json");
    const { checks } = JSON.parse(doctor.stdout) as {
      checks: { name: string; state: string; cure: string | null }[];
    };
    const states = Object.fromEntries(checks.map(({ name, state }) => [name, state]));
    expect(states).toMatchObject({
      ...{ runtime: "ok", files: "ok", secrets: "ok", hub: "ok", "hub key": "ok", clock: "ok" },
      ...{ token: "ok", version: "ok", agent: "ok", serving: "ok", engines: "ok", models: "ok", slots: "ok" },
    });
    for (const { state, cure } of checks) expect(cure === null).toBe(state === "ok");

    const why = await own("why");
    expect([why.code, why.stderr]).toEqual([0, ""]);
    expect(why.stdout).toMatch(/^It is online\.\n\nscripted: asked for \d+ times in a day, chosen \d+;/);
    const tested = await own("why", "--test", "scripted", "--json");
    expect([tested.code, JSON.parse(tested.stdout)]).toMatchObject([0, { passed: true, model: "scripted" }]);

    const follow = new Gfe(["logs", "-f", "-n", "1", "--config-dir", directory]);
    await follow.printed(/scripted/);
    const drained = await own("drain");
    expect([drained.code, drained.stderr]).toEqual([0, ""]);
    expect((await agent.ended).code).toBe(0);
    expect(await follow.ended).toMatchObject({ code: 0, stdout: expect.stringContaining("Leaving.") });
    expect(await own("status")).toEqual({
      ...{ code: 3, stdout: "" },
      stderr: "No agent runs here. Start it with `gfe up`.\n",
    });
  });

  test("is named to a second one, with how to end it", async () => {
    const { code, stdout, stderr } = await gfe(upArgs());
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(
      /^gfe: an agent runs here already \(process \d+, for .+\)\. See it with `gfe status`, end it with `gfe drain`/,
    );
  });

  test("is uninstalled: ended, revoked at its hub, its files gone, other files and credits as they were", async () => {
    writeFileSync(join(directory, "notes.txt"), "the owner's own");
    const before = await provider.me();
    const listed = await own("uninstall");
    expect([listed.code, listed.stderr]).toEqual([1, "gfe: nothing was done: run it again with --yes\n"]);
    for (const word of [
      "node-key.json",
      "hubs.json",
      "events.jsonl",
      `revoke  this node and its agent token at ${hub.url}`,
    ])
      expect(listed.stdout).toContain(word);
    expect(listed.stdout).toMatch(/keep +\S+notes\.txt/);
    expect(existsSync(join(directory, "node-key.json"))).toBe(true);

    const names = async () => (await provider.nodes()).map(({ name, online }) => `${name} ${online}`);
    expect(await names()).toContain("attic true");
    const count = (await names()).length;
    const done = await own("uninstall", "--yes");
    expect([done.code, done.stderr]).toEqual([0, ""]);
    expect((await agent.ended).code).toBe(0);
    expect(readdirSync(directory)).toEqual(["notes.txt"]);
    expect(await names()).toHaveLength(count - 1);
    expect((await provider.agentTokens())[0]).toMatchObject({
      label: "attic",
      revoked_at: expect.any(String),
    });
    expect((await provider.me()).balance).toEqual(before.balance);
    expect((await own("uninstall")).stdout).toContain("There is nothing to remove");
  });
});

describe("where no agent runs", () => {
  test("uninstall removes what is here, and says what a hub that is away could not be told", async () => {
    const away = "http://127.0.0.1:9";
    writeFileSync(join(directory, "hubs.json"), JSON.stringify({ [away]: { agent_token: "gfe_at_x" } }), {
      mode: 0o600,
    });
    const { code, stderr, stdout } = await own("uninstall", "--yes");
    expect([code, stdout]).toEqual([1, expect.stringMatching(/The rest is gone\.\n$/)]);
    expect(stderr).toMatch(
      /^gfe: http:\/\/127\.0\.0\.1:9 did not revoke this node: .+ Revoke its agent token in the dashboard$/m,
    );
    expect(existsSync(directory)).toBe(false);
  });

  test.each([["status"], ["drain"], ["logs", "-f"]])(
    "gfe %s says so, with exit status 3",
    async (...args) => {
      const { code, stdout, stderr } = await own(...args);
      expect([code, stdout]).toEqual([3, ""]);
      expect(stderr).toMatch(/Start it with `gfe up`/);
    },
  );

  test("doctor names what is missing, and its cure", async () => {
    writeFileSync(join(directory, "node-key.json"), "{}", { mode: 0o644 });
    const { code, stdout } = await own("doctor", "--hub", "http://127.0.0.1:9", "--token", "gfe_at_none");
    expect(code).toBe(1);
    expect(stdout).toMatch(/^✗ hub +http:\/\/127\.0\.0\.1:9 is not reached: nothing listens there\n +→ /m);
    expect(stdout).toMatch(/^! secrets .+mode 644\)\n +→ chmod 600 /m);
    expect(stdout).toMatch(/^! agent +no agent runs here\n +→ start it with `gfe up`/m);
    const refused = await own("doctor", "--hub", hub.url, "--token", "gfe_at_none");
    expect(refused.stdout).toMatch(/^✗ token +the hub refuses the agent token/m);
  });
});

if (!hasTerminals()) console.warn("NOT TESTED: the live panel in a terminal needs python3");

describe.skipIf(!hasTerminals())("the panel, in a real terminal", () => {
  let terminal: TestTerminal;
  afterEach(() => terminal?.kill());

  const opened = async (env: Record<string, string> = {}, size?: { columns: number; rows: number }) => {
    await keptToken();
    terminal = new TestTerminal([process.execPath, BIN, ...upArgs()], env, size);
    return terminal;
  };

  test("shows what the agent does and earns, and gives the terminal back when it is told to quit", async () => {
    await opened();
    await terminal.shows(/● Serving — waiting for work/);
    expect((await ask()).status).toBe(200);
    await terminal.shows(/Earned +0\.95 credits today, 1 answer {2}rate 0\.95\/h/);
    expect(terminal.screen).toMatch(/^GPU For Everyone · attic +127\.0\.0\.1:\d+ · up 0 m$/m);
    expect(terminal.screen).toMatch(/✓ scripted: \d+ \+ \d+ tokens/);
    expect(terminal.screen).toMatch(/p pause {2}l limits {2}s schedule {2}q quit {2}\? help$/);
    terminal.type("p");
    await terminal.shows(/‖ Paused — you paused it/);
    terminal.type("p");
    await terminal.shows(/● Serving — waiting for work/);
    terminal.type("l2\r");
    await terminal.shows(/^2 answers at once\.$/m);
    const before = terminal.raw.length;
    terminal.type("?");
    await terminal.shows(/^Keys$/m);
    terminal.type("x");
    await terminal.shows(/● Serving/);
    expect(terminal.raw.length - before).toBeLessThan(4_000); // what has not changed is not drawn again
    terminal.type("q");
    expect(await terminal.ended).toEqual({ status: 0, echo: true, lines: true });
    // The other screen is closed, the cursor is back, and a last line says what was.
    expect(terminal.screen).toMatch(/^Left the hub\. 1 answer with \d+ tokens\.$/m);
    for (const sequence of ["[?1049l", "[?25h", "[?7h"]) expect(terminal.raw).toContain(`\u001b${sequence}`);
  });

  test("has no colour with NO_COLOR, and gives the terminal back on SIGTERM, too", async () => {
    await opened({ NO_COLOR: "1" }, { columns: 80, rows: 20 });
    await terminal.shows(/● Serving/);
    const { process_id } = JSON.parse((await own("status", "--json")).stdout) as { process_id: number };
    process.kill(process_id, "SIGTERM");
    expect(await terminal.ended).toEqual({ status: 0, echo: true, lines: true });
    expect(terminal.raw).toContain("\u001b[?1049l");
    expect(terminal.raw).not.toContain("\u001b[32m");
  });

  test("goes to the background with Ctrl-Z and comes back with fg", async () => {
    await keptToken();
    const line = [process.execPath, BIN, ...upArgs()].map((word) => `'${word}'`).join(" ");
    terminal = new TestTerminal(["bash", "--norc", "--noprofile", "-i"], { PS1: "$ " });
    await terminal.shows(/bash/);
    terminal.type(`${line}\n`);
    await terminal.shows(/● Serving/);
    terminal.type("\u001a");
    await terminal.shows(/Stopped/);
    terminal.type("echo be''tween\n");
    await terminal.shows(/^between$/m);
    terminal.type("fg\n");
    await terminal.shows(/● Serving/);
    terminal.type("q");
    await terminal.shows(/Left the hub/);
    terminal.type("exit\n");
    expect(await terminal.ended).toMatchObject({ status: 0 });
  });

  test("comes after an approval, for which an address, a code and a QR code are shown", async () => {
    terminal = new TestTerminal([process.execPath, BIN, ...upArgs()], {}, { columns: 100, rows: 40 });
    await terminal.shows(/Waiting for your approval/);
    const code = /^ {2}Code {4}(\S+)$/m.exec(terminal.screen)![1]!;
    expect(terminal.screen).toMatch(new RegExp(`^ {2}Open {4}${hub.url}/\\S+${code}$`, "m"));
    expect(terminal.screen.match(/^ {2}[█▀▄ ]{30,}$/gm)!.length).toBeGreaterThan(15);
    expect(await provider.deviceRequest(code)).toMatchObject({ state: "pending", client: "gfe-agent" });
    terminal.type("\u0003");
    expect((await terminal.ended).status).not.toBe(0);
  });

  test("gives the terminal back when the program breaks, and its last words can be read", async () => {
    await keptToken();
    const crash = encodeURIComponent("process.on('SIGUSR2', () => { throw new Error('broken by a test'); })");
    terminal = new TestTerminal([process.execPath, MAIN, ...upArgs()], {
      NODE_OPTIONS: `--import=data:text/javascript,${crash}`,
    });
    await terminal.shows(/● Serving/);
    const { process_id } = JSON.parse((await own("status", "--json")).stdout) as { process_id: number };
    process.kill(process_id, "SIGUSR2");
    expect(await terminal.ended).toEqual({ status: 1, echo: true, lines: true });
    expect(terminal.screen).toMatch(/broken by a test/);
  });

  test("is lines instead where the terminal can only write them", async () => {
    await opened({ TERM: "dumb" });
    await terminal.shows(/Joined as node_/);
    expect(terminal.raw).not.toContain("\u001b[?1049h");
    terminal.type("\u0003");
    expect(await terminal.ended).toMatchObject({ status: 0, echo: true, lines: true });
  });
});
