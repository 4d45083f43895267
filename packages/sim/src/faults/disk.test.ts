/** The disk is full: in the midst of work, under the database; and at the start, under the hub's own files. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Agent, createNodeHost, loadIdentity } from "@gfe/agent";
import { parseConfig, startHub } from "@gfe/hub";
import { createTestDatabase } from "@gfe/hub/testing";
import type { LedgerVerdict } from "@gfe/protocol";
import { afterEach, describe, expect, it } from "vitest";
import { joinScripted } from "../agents.ts";
import { createHubHome, type HubHome } from "../hub-process.ts";
import { until } from "../world.ts";
import { type FaultPerson, signUp } from "./people.ts";
import { mountSmallDisk, type SmallDisk } from "./small-disk.ts";

const MIB = 1024 * 1024;
const probe = mountSmallDisk(MIB);
probe?.unmount();
const withoutDisk = probe === null;
if (withoutDisk) console.warn("\n*** NO FULL DISK IS TESTED: only root may mount one ***\n");

let disk: SmallDisk;
afterEach(() => disk?.unmount());

describe.skipIf(withoutDisk)("a full disk", () => {
  it("under the database: who asks is told 503, nothing is lost, and with room again all goes on", async () => {
    disk = mountSmallDisk(160 * MIB)!;
    const home: HubHome = await createHubHome(disk.path);
    let agent: Agent | undefined;
    try {
      await home.start({ GFE_SIGNUP_CREDITS: "1000", GFE_FEE_PERCENT: "0" });
      const operator = await signUp(home.url, "operator");
      const people = await Promise.all(["a", "b", "c", "d"].map((name) => signUp(home.url, name)));
      agent = await joinScripted(
        { models: [{ name: "m", slots: 8 }], deltas: 20, paceMs: 5 },
        {
          ...{ hubUrl: home.url, token: operator.agentToken },
          prices: { default: { per_request: "1000000", per_million_input: "0", per_million_output: "0" } },
        },
      );
      const counts = { whole: 0, refused: 0, broken: 0 };
      const wrong: string[] = [];
      const stop = new AbortController();
      const load = people.map(async (person) => {
        while (!stop.signal.aborted) {
          const { status, retryAfter, text } = await ask(home.url, person);
          if (status === 200 && text.includes("[DONE]")) counts.whole++;
          else if (status === 200 && /^data: \{"error":/m.test(text)) counts.broken++;
          else if (status === 503 && retryAfter !== null) counts.refused++;
          else wrong.push(`${status} ${retryAfter} ${text}`);
        }
      });
      await until(() => counts.whole > 10, "it works");
      disk.fill();
      await until(() => counts.refused > 6, "the database has no room", 60_000);
      disk.free();
      const before = counts.whole;
      await until(() => counts.whole > before + 8, "it works again", 60_000);
      stop.abort();
      await Promise.all(load);
      expect(wrong).toEqual([]);
      await until(
        async () => (await held(home.url, people)).every((micro) => micro === "0"),
        "nothing is held",
        60_000,
      );
      const paid = (await balances(home.url, people)).map((micro) => 1_000_000_000n - BigInt(micro));
      const sum = Number(paid.reduce((total, micro) => total + micro, 0n)) / 1_000_000;
      expect(sum).toBeGreaterThanOrEqual(counts.whole);
      expect(sum).toBeLessThanOrEqual(counts.whole + counts.broken); // those have paid for a part
      const verified = await fetch(`${home.url}/api/v1/ledger/verify`, {
        headers: { cookie: operator.cookie },
      });
      expect((await verified.json()) as LedgerVerdict).toMatchObject({ ok: true });
    } finally {
      await agent?.stop();
      await home.clean();
    }
  }, 180_000);

  it("under the hub's own files: it does not start, says why, and leaves none half-written", async () => {
    const database = await createTestDatabase();
    const [pages, page] = [6, 4096];
    for (let free = 0; free <= pages; free++) {
      disk = mountSmallDisk(64 * page)!;
      disk.fill(free * page);
      const env = { PORT: "0", DATABASE_URL: database.url, GFE_DATA_DIR: disk.path, GFE_LOG_LEVEL: "fatal" };
      const parsed = parseConfig(env);
      if (!parsed.ok) throw new Error("the configuration is wrong");
      const start = startHub(parsed.config);
      const failed = await start.then(
        (hub) => hub.stop().then(() => null),
        (error: Error) => error,
      );
      if (failed) expect(failed.message).toContain(`No room is left in ${disk.path}`);
      else expect(free).toBeGreaterThan(0);
      for (const name of readdirSync(disk.path).filter((name) => !name.startsWith("filler")))
        expect([free, name, readFileSync(join(disk.path, name), "utf8")]).toEqual([
          free,
          name,
          expect.stringMatching(/./),
        ]);
      disk.free();
      await (await startHub(parsed.config)).stop();
      disk.unmount();
    }
    await database.drop();
    disk = mountSmallDisk(MIB)!; // for afterEach
  }, 60_000);

  it("under a node's key: there is none, and with room again there is one", async () => {
    disk = mountSmallDisk(MIB)!;
    disk.fill();
    const host = createNodeHost({ configDir: disk.path, stateDir: disk.path });
    await expect(loadIdentity(host)).rejects.toThrow();
    expect(readdirSync(disk.path)).toEqual(["filler"]);
    disk.free();
    const { publicKey } = await loadIdentity(host);
    expect((await loadIdentity(host)).publicKey).toBe(publicKey);
  });
});

async function ask(hubUrl: string, person: FaultPerson) {
  const response = await fetch(`${hubUrl}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${person.key}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "m", stream: true, messages: [{ role: "user", content: "hi" }] }),
    signal: AbortSignal.timeout(60_000),
  });
  return {
    status: response.status,
    retryAfter: response.headers.get("retry-after"),
    text: await response.text(),
  };
}

const balanceOf = async (hubUrl: string, { cookie }: FaultPerson) => {
  const response = await fetch(`${hubUrl}/api/v1/me`, { headers: { cookie } });
  return ((await response.json()) as { balance: { held_micro: string; available_micro: string } }).balance;
};
const held = (hubUrl: string, people: FaultPerson[]) =>
  Promise.all(people.map(async (person) => (await balanceOf(hubUrl, person)).held_micro));
const balances = (hubUrl: string, people: FaultPerson[]) =>
  Promise.all(people.map(async (person) => (await balanceOf(hubUrl, person)).available_micro));
