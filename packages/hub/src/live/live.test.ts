import { once } from "node:events";
import { createServer } from "node:http";
import { type LiveEvent, liveEventSchema } from "@gfe/protocol";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createRegistry } from "../market/registry.ts";
import { call, newAgentToken, newKey, type Person } from "../testing/test-api.ts";
import { startTestHub, type TestHub } from "../testing/test-hub.ts";
import { LiveReader } from "../testing/test-live.ts";
import { joinNode } from "../testing/test-node.ts";
import { createLive, LIVE_LIMITS } from "./live.ts";

let hub: TestHub;
let provider: Person;
let consumer: Person;
let stranger: Person;
let key: string;
const readers: LiveReader[] = [];

beforeAll(async () => {
  hub = await startTestHub();
  provider = await hub.signUp();
  consumer = await hub.signUp();
  stranger = await hub.signUp();
  key = (await newKey(hub, consumer, ["inference"])).key;
  await joinNode(hub.url, (await newAgentToken(hub, provider)).secret);
});
afterEach(() => Promise.all(readers.splice(0).map((reader) => reader.leave())));
afterAll(() => hub?.close());

async function open(headers: Record<string, string> = {}): Promise<LiveReader> {
  const reader = await LiveReader.open(hub, headers);
  readers.push(reader);
  await reader.event(() => true);
  return reader;
}
const asks = async (): Promise<string> => {
  const messages = [{ role: "user", content: "hi" }];
  const { body } = await call(
    hub,
    "POST /v1/chat/completions",
    { key },
    { model: "m", messages, max_tokens: 9 },
  );
  return body.x_gfe.job_id;
};
const isEnded = (jobId: string) => (event: LiveEvent) =>
  event.type === "job" && event.job.id === jobId && event.job.state === "completed";
const isPrivate = ({ type }: LiveEvent): boolean => ["job", "balance", "node"].includes(type);
/** Public events come once a tick: what was to come by then has come. */
const aTickLater = async (reader: LiveReader) => {
  await asks();
  const { stats } = (await call(hub, "GET /api/v1/market")).body;
  await reader.event((event) => event.type === "stats" && event.stats.jobs_total >= stats.jobs_total);
};

describe("a stranger", () => {
  test("gets a snapshot first, without a balance, and it is no page to cache or compress", async () => {
    const reader = await open();
    expect(reader.events[0]).toMatchObject({
      type: "snapshot",
      balance_micro: null,
      market: { models: [{ model: "m", nodes: 1 }], stats: { nodes_online: 1, running: 0 } },
    });
    expect(reader.response.headers.get("content-type")).toMatch("text/event-stream");
    expect(reader.response.headers.get("cache-control")).toBe("no-cache, no-transform");
  });

  test("hears of a job as numbers only", async () => {
    const reader = await open();
    const snapshot = reader.events[0] as Extract<LiveEvent, { type: "snapshot" }>;
    const before = snapshot.market.stats.jobs_completed;
    await asks();
    await reader.event((event) => event.type === "stats" && event.stats.jobs_completed === before + 1);
    expect(reader.events.filter(isPrivate)).toEqual([]);
    for (const event of reader.events) expect(liveEventSchema.parse(event)).toEqual(event);
    expect(JSON.stringify(reader.events)).not.toContain(consumer.userId);
  });

  test("hears of models that come and go", async () => {
    const reader = await open();
    const names = (event: LiveEvent) =>
      event.type === "models" ? event.models.map(({ model }) => model) : [];
    const { secret } = await newAgentToken(hub, provider);
    const node = await joinNode(hub.url, secret, { offer: { model: "brief" } });
    await reader.event((event) => names(event).includes("brief"));
    await node.leave();
    await reader.event((event) => event.type === "models" && !names(event).includes("brief"));
  });
});

describe("somebody who is signed in", () => {
  test("gets its balance in the snapshot, then its jobs and what they cost", async () => {
    const reader = await open({ cookie: consumer.cookie });
    const { body } = await call(hub, "GET /api/v1/me", consumer);
    expect(reader.events[0]).toMatchObject({ balance_micro: body.balance.available_micro });
    await reader.event(isEnded(await asks()));
    const available_micro = (BigInt(body.balance.available_micro) - 1_000_000n).toString();
    await reader.event(
      (event) =>
        event.type === "balance" && event.available_micro === available_micro && event.held_micro === "0",
    );
  });

  test("hears of what its nodes served", async () => {
    const reader = await open({ cookie: provider.cookie });
    await reader.event(isEnded(await asks()));
  });

  test("hears nothing of others' jobs, nodes and money", async () => {
    const [other, own] = [await open({ cookie: stranger.cookie }), await open({ cookie: consumer.cookie })];
    await own.event(isEnded(await asks()));
    await aTickLater(other);
    expect(other.events.filter(isPrivate)).toEqual([]);
  });

  test("with a key that may not read is refused", async () => {
    expect(
      (await fetch(`${hub.url}/api/v1/live`, { headers: { authorization: `Bearer ${key}` } })).status,
    ).toBe(403);
  });
});

describe("a reader that comes back", () => {
  test("gets what it missed, each once and in order, and no snapshot", async () => {
    const cookie = { cookie: consumer.cookie };
    const witness = await open(cookie);
    const first = await open(cookie);
    await first.event(isEnded(await asks()));
    await first.leave();
    const { lastId } = first;
    const missed = await asks();
    await witness.event(isEnded(missed));
    const second = await open({ ...cookie, "last-event-id": lastId });
    await second.event(isEnded(missed));
    await second.event(isEnded(await asks()));
    expect(second.events.map(({ type }) => type)).not.toContain("snapshot");
    const from = witness.told.findIndex(({ id }) => id === lastId);
    expect(witness.told.slice(from + 1).map(({ id }) => id)).toEqual(
      expect.arrayContaining(second.told.map(({ id }) => id)),
    );
    expect(new Set(second.told.map(({ id }) => id)).size).toBe(second.told.length);
  });

  test("gets its own events even where nobody of its account was looking meanwhile", async () => {
    const cookie = { cookie: consumer.cookie };
    const first = await open(cookie);
    await first.event(isEnded(await asks()));
    await first.leave();
    const missed = await asks();
    const second = await open({ ...cookie, "last-event-id": first.lastId });
    await second.event(isEnded(missed));
    expect(second.events.map(({ type }) => type)).not.toContain("snapshot");
  });

  test("gets no one else's, whoever's id it shows", async () => {
    const own = await open({ cookie: consumer.cookie });
    const { lastId } = own;
    await own.event(isEnded(await asks()));
    for (const headers of [undefined, { cookie: stranger.cookie }]) {
      const other = await open({ ...headers, "last-event-id": lastId });
      await aTickLater(other);
      expect(other.events.filter(isPrivate)).toEqual([]);
    }
  });

  test("that was a stranger before gets its own balance in a new snapshot", async () => {
    const before = await open();
    const { cookie } = await hub.signUp();
    const after = await open({ cookie, "last-event-id": before.lastId });
    expect(after.events[0]).toMatchObject({ type: "snapshot", balance_micro: "100000000" });
  });

  test.each(["nonsense", "other-5", "1", "-1", "x".repeat(1000)])(
    "with an id that is not ours gets a snapshot: %s",
    async (id) => {
      const reader = await open({ "last-event-id": id });
      expect(reader.events[0]).toMatchObject({ type: "snapshot" });
    },
  );

  test("with an id that was not given yet gets a snapshot", async () => {
    const [boot] = (await open()).lastId.split("-");
    expect((await open({ "last-event-id": `${boot}-999999` })).events[0]).toMatchObject({ type: "snapshot" });
  });
});

test("a reader that left before its stream was opened takes no place", async () => {
  const live = createLive(createRegistry(), { total: 0, completed: 0, tokens: 0 }, () => null);
  const reader = { userId: "usr_1", address: "127.0.0.1", lastEventId: undefined, balanceMicro: null };
  const server = createServer((_request, response) => {
    response.once("close", () => {
      live.open(response, reader);
      server.emit("opened");
    });
    response.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  for (let i = 0; i <= LIVE_LIMITS.connectionsPerReader; i++) {
    const opened = once(server, "opened");
    await fetch(`http://127.0.0.1:${port}`).catch(() => {});
    await opened;
  }
  expect(live.hasReaders("usr_1")).toBe(false);
  live.close();
  await new Promise((resolve) => server.close(resolve));
});

test("one account has no more streams than it may, and gets a place back when it leaves one", async () => {
  const cookie = { cookie: stranger.cookie };
  const mine: LiveReader[] = [];
  for (let i = 0; i < LIVE_LIMITS.connectionsPerReader; i++) mine.push(await open(cookie));
  const refused = await fetch(`${hub.url}/api/v1/live`, { headers: cookie });
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "10"]);
  await refused.text();
  await open({ cookie: consumer.cookie });
  await mine[0]!.leave();
  await expect.poll(() => open(cookie).then(() => "open", String)).toBe("open");
});
