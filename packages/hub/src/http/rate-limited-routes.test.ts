/** Rate limits by real requests: an account's and a key's own, on every route that asks models. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Answer, call, newAgentToken, newKey, type Person } from "../testing/test-api.ts";
import { startTestHub, type TestHub } from "../testing/test-hub.ts";
import { joinNode, type TestNodeOptions } from "../testing/test-node.ts";

const PER_MINUTE = 4;
let hub: TestHub;
const slow: { onStart: NonNullable<TestNodeOptions["onStart"]> } = { onStart: () => {} };

beforeAll(async () => {
  hub = await startTestHub({
    GFE_RATE_REQUESTS_PER_MINUTE: String(PER_MINUTE),
    GFE_RATE_TOKENS_PER_MINUTE: "1200",
  });
  const token = (await newAgentToken(hub, await hub.signUp())).secret;
  await joinNode(hub.url, token);
  await joinNode(hub.url, token, {
    offer: { model: "slow" },
    onStart: (start, node) => slow.onStart(start, node),
  });
});
afterAll(() => hub?.close());

const messages = [{ role: "user", content: "hi" }];
const ROUTES: [route: string, body: object, status: number][] = [
  ["POST /v1/chat/completions", { model: "m", messages, max_tokens: 10 }, 200],
  ["POST /v1/messages", { model: "m", messages, max_tokens: 10 }, 200],
  ["POST /api/chat", { model: "m", messages, stream: false }, 200],
  ["POST /api/computing/submit-job/", { model: "m", prompt: "hi" }, 201],
  ["POST /api/v1/jobs", { model: "m", messages }, 202],
];
const left = ({ headers }: Answer, what = "requests") => [
  headers.get(`x-ratelimit-limit-${what}`),
  headers.get(`x-ratelimit-remaining-${what}`),
];

test.each(ROUTES)(
  "%s comes under the account's limit, and says what is left",
  async (route, body, status) => {
    const person = await hub.signUp();
    const { key } = await newKey(hub, person, ["inference"]);
    for (let rest = PER_MINUTE - 1; rest >= 0; rest--) {
      const answer = await call(hub, route, { key }, body);
      expect([answer.status, ...left(answer)]).toEqual([status, String(PER_MINUTE), String(rest)]);
    }
    const refused = await call(hub, route, { key }, body);
    expect([refused.status, ...left(refused)]).toEqual([429, String(PER_MINUTE), "0"]);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(1);
  },
);

test.each(ROUTES)(
  "%s comes under a key's own lower limit; the account's other keys do not",
  async (route, body, status) => {
    const person: Person = await hub.signUp();
    const slow = await newKey(hub, person, ["inference"], { requests_per_minute: 2 });
    const free = await newKey(hub, person, ["inference"]);
    const first = await call(hub, route, slow, body);
    expect([first.status, ...left(first)]).toEqual([status, "2", "1"]);
    expect((await call(hub, route, slow, body)).status).toBe(status);
    const refused = await call(hub, route, slow, body);
    expect([refused.status, ...left(refused)]).toEqual([429, "2", "0"]);
    expect(JSON.stringify(refused.body)).toContain("More than 2 requests a minute");
    const other = await call(hub, route, free, body); // the refused one was not charged to the account
    expect([other.status, ...left(other)]).toEqual([status, String(PER_MINUTE), "1"]);
  },
);

test("a key's limit above its account's changes nothing", async () => {
  const { key } = await newKey(hub, await hub.signUp(), ["inference"], { requests_per_minute: 1000 });
  const [route, body] = ROUTES[0]!;
  expect(left(await call(hub, route, { key }, body))).toEqual([String(PER_MINUTE), String(PER_MINUTE - 1)]);
});

test("a key tells its limit, and forgets it never", async () => {
  const person = await hub.signUp();
  await newKey(hub, person, ["inference"], { requests_per_minute: 7 });
  await newKey(hub, person, ["inference"]);
  const { body } = await call(hub, "GET /api/v1/keys", person);
  expect(body.keys.map((key: { requests_per_minute: number | null }) => key.requests_per_minute)).toEqual([
    null,
    7,
  ]);
});

test("the forerunner's jobs are charged their estimate at first, and at the end what they used", async () => {
  const { key } = await newKey(hub, await hub.signUp(), ["inference"]);
  let end: () => void = () => {};
  const started = new Promise<void>((resolve) => {
    slow.onStart = (start, node) => {
      node.say(start, "word");
      end = () => void node.done(start, 1);
      resolve();
    };
  });
  const submit = () =>
    call(hub, "POST /api/computing/submit-job/", { key }, { model: "slow", prompt: "x".repeat(4_000) });
  expect((await submit()).status).toBe(201);
  await started;
  const refused = await submit();
  expect([refused.status, JSON.stringify(refused.body)]).toEqual([
    429,
    expect.stringContaining("1200 tokens"),
  ]);
  end();
  const tokensLeft = async () =>
    Number(left(await call(hub, "POST /v1/embeddings", { key }, {}), "tokens")[1]);
  await expect.poll(tokensLeft).toBeGreaterThan(1_150); // 20 come back in a second
});
