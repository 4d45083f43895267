/** Waiting on a whole hub: whose turn it is, what the waiting hear, and what overload and rate limits refuse and cost. */
import { afterEach, expect, it } from "vitest";
import { RogueAgent, type RogueOptions } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
/** One credit a request. */
const price = { per_request: "1000000", per_million_input: "0", per_million_output: "0" };

let world: World;
let provider: Person;

async function begin(env: Record<string, string> = {}): Promise<void> {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "1000", ...env });
  provider = await world.person("provider");
}
afterEach(() => world.end());

const join = (options: Partial<RogueOptions>) =>
  RogueAgent.join({ hubUrl: world.hub.url, token: provider.agentToken, price, ...options });
const ask = (as: Person, content = "hi", body: object = {}, headers: Record<string, string> = {}) =>
  world.call("POST", "/v1/chat/completions", {
    as,
    headers,
    body: { model: "m", max_tokens: 20, messages: [{ role: "user", content }], ...body },
  });
const queued = async () => {
  const { body } = await world.call("GET", "/metrics");
  return Number(/^gfe_jobs_queued (\d+)/m.exec(body)?.[1] ?? Number.NaN);
};
/** A node that answers when told, and what it was asked, in order. */
function byHand() {
  const asked: string[] = [];
  const answers: (() => void)[] = [];
  const onStart: RogueOptions["onStart"] = (start, agent) => {
    asked.push((start.body as { messages: { content: string }[] }).messages[0]!.content);
    answers.push(() => {
      agent.text(start.channel, "word");
      void agent.done(start, 1);
    });
  };
  return { asked, onStart, answerNext: () => answers.shift()?.() };
}

it("nine light consumers are served before all but a few of a flood that came first", async () => {
  await begin();
  const flood = await world.person("flood");
  const light = await Promise.all(Array.from({ length: 9 }, (_, i) => world.person(`light${i}`)));
  const node = byHand();
  await join({ slots: 2, onStart: node.onStart });
  const answers = Array.from({ length: 36 }, () => ask(flood, "flood"));
  await until(async () => (await queued()) === 34, "the flood waits");
  answers.push(...light.map((person) => ask(person, "light")));
  await until(async () => (await queued()) === 43, "all wait");
  const answering = setInterval(node.answerNext, 2);
  const statuses = (await Promise.all(answers)).map(({ status }) => status);
  clearInterval(answering);
  expect(new Set(statuses)).toEqual(new Set([200]));
  // Taking turns with nine, and what an end gives back of its estimate; in order of arrival the last would be 44.
  expect(node.asked.lastIndexOf("light")).toBeLessThan(2 + 3 * 9);
}, 20_000);

it("serves by service_tier and by the header, and refuses a priority that is none", async () => {
  await begin();
  const consumer = await world.person("consumer");
  const node = byHand();
  await join({ slots: 1, onStart: node.onStart });
  const first = ask(consumer, "first");
  await until(() => node.asked.length === 1, "the slot is taken");
  const answers = [first];
  for (const [content, body, headers] of [
    ["flex", { service_tier: "flex" }, {}],
    ["none", {}, {}],
    ["priority", { service_tier: "priority" }, {}],
    ["header", { service_tier: "flex" }, { "x-gfe-priority": "interactive" }],
  ] as const) {
    answers.push(ask(consumer, content, body, headers));
    await until(async () => (await queued()) === answers.length - 1, "it waits");
  }
  const refused = await ask(consumer, "x", {}, { "x-gfe-priority": "urgent" });
  expect([refused.status, refused.body.error.param]).toEqual([400, "x-gfe-priority"]);
  expect((await ask(consumer, "x", { service_tier: "urgent" })).body.error.param).toBe("service_tier");
  const answering = setInterval(node.answerNext, 2);
  await Promise.all(answers);
  clearInterval(answering);
  expect(node.asked).toEqual(["first", "priority", "header", "none", "flex"]);
  const { rows } = await world.pool.query("SELECT priority FROM jobs ORDER BY created_at");
  expect(rows.map(({ priority }) => priority)).toEqual([
    ...["standard", "interactive", "interactive", "standard", "batch"],
  ]);
});

it("a stream that waits hears its place, and its answer after it", async () => {
  await begin();
  const consumer = await world.person("consumer");
  const node = byHand();
  await join({ slots: 1, onStart: node.onStart });
  const first = ask(consumer);
  await until(() => node.asked.length === 1, "the slot is taken");
  const response = await fetch(`${world.hub.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "m", stream: true, messages: [{ role: "user", content: "second" }] }),
  });
  expect(response.status).toBe(200); // its headers came with the first comment
  node.answerNext();
  await first;
  await until(() => node.asked.length === 2, "the second has its turn");
  node.answerNext();
  const text = await response.text();
  expect(text).toMatch(/^: queued position=1\n\ndata: /);
  expect(text).toContain('"content":"word"');
});

it("at three times what it can serve the excess is refused at once, and only what was answered is paid", async () => {
  await begin({ GFE_QUEUE_WAIT_MS: "1000" });
  const consumers = await Promise.all(Array.from({ length: 4 }, (_, i) => world.person(`c${i}`)));
  const [slots, serviceMs] = [4, 200];
  await join({
    slots,
    onStart: (start, agent) =>
      setTimeout(() => {
        agent.text(start.channel, "word");
        void agent.done(start, 1);
      }, serviceMs),
  });
  const seen: { status: number; code?: string; retryAfter: string | null; tookMs: number }[] = [];
  const sent: Promise<unknown>[] = [];
  const send = async (person: Person) => {
    const startedAt = performance.now();
    const { status, body, headers } = await ask(person);
    const tookMs = performance.now() - startedAt;
    seen.push({ status, code: body.error?.code, retryAfter: headers.get("retry-after"), tookMs });
  };
  const everyMs = serviceMs / slots / 3;
  for (let i = 0; i < 120; i++) {
    sent.push(send(consumers[i % 4]!));
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  await Promise.all(sent);
  const answered = seen.filter(({ status }) => status === 200);
  const refused = seen.filter(({ status }) => status !== 200);
  expect(answered.length).toBeGreaterThan(30);
  expect(refused.length).toBeGreaterThan(30);
  for (const { status, code, retryAfter } of refused) {
    expect([status, code]).toEqual([503, "no_slot"]);
    expect(Number(retryAfter)).toBeGreaterThanOrEqual(1);
  }
  const took = refused.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  expect(took[took.length >> 1]).toBeLessThan(100);
  expect(took.filter((ms) => ms > 500).length).toBeLessThan(took.length / 4); // who waited in vain
  const spent = await Promise.all(consumers.map((person) => world.available(person)));
  const left = spent.reduce((sum, available) => sum + available, 0n);
  expect(left).toBe((4_000n - BigInt(answered.length)) * CREDIT); // world.end() verifies the ledger and each job
  const { rows } = await world.pool.query("SELECT state, count(*)::int AS jobs FROM jobs GROUP BY state");
  expect(rows).toEqual([{ state: "completed", jobs: answered.length }]);
}, 20_000);

it("bounds an account's requests and tokens a minute, says what is left, and counts what was used", async () => {
  await begin({ GFE_RATE_REQUESTS_PER_MINUTE: "3", GFE_RATE_TOKENS_PER_MINUTE: "1000" });
  const [one, other] = [await world.person("one"), await world.person("other")];
  // So many that they are not given back in the time that a busy machine may take for the rest.
  const used = 300;
  await join({
    onStart: (start, agent) => {
      agent.text(start.channel, "x".repeat(used));
      void agent.done(start, used);
    },
  });
  const first = await ask(one, "hi", { max_tokens: 500 });
  expect(first.status).toBe(200);
  expect(first.headers.get("x-ratelimit-limit-requests")).toBe("3");
  expect(first.headers.get("x-ratelimit-remaining-requests")).toBe("2");
  expect(Number(first.headers.get("x-ratelimit-remaining-tokens"))).toBeGreaterThan(1000 - used - 10); // not 500 less
  const dear = await ask(one, "hi", { max_tokens: 1000, n: 2, stream: true });
  expect([dear.status, dear.headers.get("x-ratelimit-limit-tokens")]).toEqual([429, "1000"]);
  const stream = await ask(one, "hi", { max_tokens: 5, stream: true });
  expect([stream.status, stream.headers.get("x-ratelimit-remaining-requests")]).toEqual([200, "0"]);
  const { status, body, headers } = await ask(one);
  expect([status, body.error.code, headers.get("x-ratelimit-remaining-requests")]).toEqual([
    ...[429, "rate_limited", "0"],
  ]);
  expect(Number(headers.get("retry-after"))).toBeGreaterThan(10);
  expect((await ask(other)).status).toBe(200);
});
