/** What happens when something breaks: who pays, who is told what, and how soon. */
import { request as httpRequest } from "node:http";
import { type AttemptStart, LINK_LIMITS, type PriceWire } from "@gfe/protocol";
import { afterEach, describe, expect, it } from "vitest";
import { RogueAgent, type RogueOptions } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
/** One credit a token out, so that what was delivered can be read off the bill. */
const PER_TOKEN: PriceWire = {
  per_request: "0",
  per_million_input: "0",
  per_million_output: "1000000000000",
};

let world: World;
let provider: Person;
let consumer: Person;
afterEach(() => world.end());

async function begin(env: Record<string, string> = {}): Promise<void> {
  world = await startWorld({
    GFE_SIGNUP_CREDITS: "100",
    GFE_FEE_PERCENT: "0",
    GFE_QUEUE_WAIT_MS: "300",
    ...env,
  });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
}

const join = (options: Partial<RogueOptions> = {}) =>
  RogueAgent.join({ hubUrl: world.hub.url, token: provider.agentToken, price: PER_TOKEN, ...options });

const chat = (body: object = {}, as = consumer) =>
  world.call("POST", "/v1/chat/completions", {
    as,
    body: { model: "m", messages: [{ role: "user", content: "hi" }], max_tokens: 50, ...body },
  });

interface OpenStream {
  status: number;
  /** All events so far, parsed; `[DONE]` as a string. */
  events: unknown[];
  ended: Promise<void>;
  hangUp(): void;
}

/** A stream that the test can leave whenever it likes. */
function openStream(body: object = {}): Promise<OpenStream> {
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(
      `${world.hub.url}/v1/chat/completions`,
      {
        method: "POST",
        headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
      },
      (response) => {
        const events: unknown[] = [];
        let rest = "";
        const ended = new Promise<void>((done) => response.once("close", done));
        response.setEncoding("utf8").on("data", (chunk: string) => {
          rest += chunk;
          const lines = rest.split("\n");
          rest = lines.pop()!;
          for (const line of lines) {
            if (line.startsWith("data: "))
              events.push(line === "data: [DONE]" ? "[DONE]" : JSON.parse(line.slice(6)));
          }
        });
        response.on("error", () => {});
        resolve({ status: response.statusCode!, events, ended, hangUp: () => outgoing.destroy() });
      },
    );
    outgoing.on("error", reject);
    outgoing.end(
      JSON.stringify({
        model: "m",
        stream: true,
        max_tokens: 50,
        messages: [{ role: "user", content: "hi" }],
        ...body,
      }),
    );
  });
}

const say = (words: number) => (start: AttemptStart, agent: RogueAgent) => {
  for (let i = 0; i < words; i++) agent.text(start.channel, `word${i} `);
};

describe("a node that dies in mid-stream", () => {
  it("ends in an error chunk, is paid for what was delivered, and the rest returns", async () => {
    await begin();
    const node = await join({ onStart: say(7) });
    const stream = await openStream();
    await until(() => stream.events.length === 7, "seven words came");
    node.die();
    await stream.ended;
    expect(stream.events.at(-1)).toMatchObject({
      error: { code: "node_lost", type: "server_error" },
      x_gfe: { cost_micro: "7000000" },
    });
    expect(stream.events).not.toContain("[DONE]");
    expect(await world.available(consumer)).toBe(93n * CREDIT);
    expect(await world.available(provider)).toBe(107n * CREDIT);
  });

  it("owes the request price in proportion to what was delivered of what was asked for", async () => {
    await begin();
    const node = await join({
      price: { ...PER_TOKEN, per_million_output: "0", per_request: "10000000" },
      onStart: say(5),
    });
    const stream = await openStream({ max_tokens: 50 });
    await until(() => stream.events.length === 5, "five words came");
    node.die();
    await stream.ended;
    expect(await world.available(consumer)).toBe(99n * CREDIT);
  });
});

describe("before the first token", () => {
  it("a dead node's job goes to the next-best, inside the same hold, and only that one is paid", async () => {
    await begin();
    const cheap = await join({
      price: { ...PER_TOKEN, per_million_output: "1" },
      onStart: (_start, agent) => agent.die(),
    });
    const dear = await RogueAgent.join({
      hubUrl: world.hub.url,
      token: (await world.person("other")).agentToken,
      price: { ...PER_TOKEN, per_million_output: "1" },
      name: "second",
    });
    const { status, body } = await chat();
    expect(status).toBe(200);
    expect(cheap.starts.length + dear.starts.length).toBeGreaterThanOrEqual(1);
    expect(body.x_gfe.node_name).toBe("second");
    const { rows } = await world.pool.query("SELECT count(*)::int AS n FROM ledger_holds");
    expect(rows[0].n).toBe(1);
  });

  it("a dearer node is not tried where the hold does not cover it", async () => {
    await begin();
    await join({
      price: { ...PER_TOKEN, per_million_output: "1000000" },
      onStart: (start, agent) => agent.fail(start),
    });
    const dear = await RogueAgent.join({
      hubUrl: world.hub.url,
      token: (await world.person("other")).agentToken,
      price: PER_TOKEN,
    });
    expect((await chat()).status).toBe(502);
    expect(dear.starts).toHaveLength(0);
  });
});

describe("a caller that hangs up", () => {
  it("aborts the engine within 300 ms and is billed for what was delivered", async () => {
    await begin();
    const node = await join({ onStart: say(3) });
    const stream = await openStream();
    await until(() => stream.events.length === 3, "three words came");
    const leftAt = performance.now();
    stream.hangUp();
    await node.frame((frame) => frame.type === "attempt.cancel");
    expect(performance.now() - leftAt).toBeLessThan(300);
    const start = node.starts[0]!;
    node.send({
      type: "attempt.failed",
      attempt: start.attempt,
      code: "cancelled",
      message: "",
      receipt: await node.receipt(start.attempt, 3),
    });
    await until(async () => (await world.available(consumer)) === 97n * CREDIT, "three credits were charged");
  });

  it("before the first token pays nothing, even where the node never answers the cancel", async () => {
    await begin();
    const node = await join({ onStart: () => {} });
    const going = openStream().catch(() => null);
    void going;
    await until(() => node.starts.length === 1, "it started");
    const controller = new AbortController();
    const second = fetch(`${world.hub.url}/v1/chat/completions`, {
      method: "POST",
      signal: controller.signal,
      headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "m", max_tokens: 10, messages: [{ role: "user", content: "hi" }] }),
    }).catch(() => null);
    await until(() => node.starts.length === 2, "the second started");
    controller.abort();
    await second;
    node.die();
    await going;
    await until(async () => (await world.available(consumer)) === 100n * CREDIT, "all came back");
  });
});

describe("timeouts refund, and say which it was", () => {
  it("no first token", async () => {
    await begin({ GFE_FIRST_TOKEN_TIMEOUT_MS: "100" });
    const node = await join({ onStart: () => {} });
    const { status, body } = await chat();
    expect([status, body.error.code]).toEqual([504, "first_token_timeout"]);
    await node.frame((frame) => frame.type === "attempt.cancel");
    expect(await world.available(consumer)).toBe(100n * CREDIT);
  });

  it("stalled: pays for what was delivered", async () => {
    await begin({ GFE_STALL_TIMEOUT_MS: "150" });
    await join({ onStart: say(4) });
    const stream = await openStream();
    await stream.ended;
    expect(stream.events.at(-1)).toMatchObject({ error: { code: "stalled" } });
    expect(await world.available(consumer)).toBe(96n * CREDIT);
  });

  it("the whole answer took too long", async () => {
    await begin({ GFE_TOTAL_TIMEOUT_MS: "300" });
    await join({
      onStart(start, agent) {
        const ticking = setInterval(() => agent.text(start.channel, "w "), 40);
        void agent.frame((frame) => frame.type === "attempt.cancel").then(() => clearInterval(ticking));
      },
    });
    const stream = await openStream();
    await stream.ended;
    expect(stream.events.at(-1)).toMatchObject({ error: { code: "total_timeout" } });
  });

  it("no slot", async () => {
    await begin({ GFE_QUEUE_WAIT_MS: "100" });
    const node = await join({ slots: 1, onStart: () => {} });
    const first = chat();
    await until(() => node.starts.length === 1, "the slot is taken");
    const { status, body, headers } = await chat();
    expect([status, body.error.code]).toEqual([503, "no_slot"]);
    expect(headers.get("retry-after")).not.toBeNull();
    node.fail(node.starts[0]!, "cancelled");
    await first;
  });

  it("a request that waits for a slot gets it when it comes free", async () => {
    await begin({ GFE_QUEUE_WAIT_MS: "5000" });
    const node = await join({ slots: 1, onStart: () => {} });
    const answers = [chat(), chat()];
    await until(() => node.starts.length === 1, "the first started");
    const first = node.starts[0]!;
    node.text(first.channel, "one");
    await node.done(first, 1);
    await until(() => node.starts.length === 2, "the second started");
    node.text(node.starts[1]!.channel, "two");
    await node.done(node.starts[1]!, 1);
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200]);
  });
});

describe("claims", () => {
  it("never more tokens are billed than bytes were relayed", async () => {
    await begin();
    await join({
      onStart(start, agent) {
        agent.text(start.channel, "abc");
        void agent.done(start, 50, 1_000_000);
      },
    });
    expect((await chat()).body.x_gfe.cost_micro).toBe("3000000");
  });

  it("a receipt with a bad signature counts for nothing: the hub's own count is billed", async () => {
    await begin();
    await join({
      async onStart(start, agent) {
        say(2)(start, agent);
        const signed = await agent.receipt(start.attempt, 9);
        agent.send({
          type: "attempt.done",
          attempt: start.attempt,
          finish: ["stop"],
          receipt: {
            ...signed,
            receipt: { ...signed.receipt, usage: { ...signed.receipt.usage, output_tokens: 10 } },
          },
        });
      },
    });
    expect((await chat()).body.x_gfe.cost_micro).toBe("2000000");
  });

  it("an empty answer costs nothing", async () => {
    await begin();
    await join({
      price: { ...PER_TOKEN, per_request: "5000000" },
      onStart: (start, agent) => void agent.done(start, 20),
    });
    const { status, body } = await chat();
    expect([status, body.x_gfe.cost_micro]).toEqual([200, "0"]);
    expect(await world.available(consumer)).toBe(100n * CREDIT);
  });

  it("what comes after the end reaches nobody", async () => {
    await begin();
    const node = await join();
    const { body } = await chat();
    node.text(node.starts[0]!.channel, "late");
    expect(body.choices[0].message.content).toBe("word");
    expect((await chat()).body.choices[0].message.content).toBe("word");
  });
});

describe("agents that misbehave", () => {
  it("malformed frames are refused one by one, then the socket is closed; nobody else notices", async () => {
    await begin();
    const rogue = await join({ name: "rogue", model: "other" });
    await RogueAgent.join({
      hubUrl: world.hub.url,
      token: (await world.person("honest")).agentToken,
      price: PER_TOKEN,
    });
    const broken = [
      "not json",
      "{}",
      JSON.stringify({ type: "announce" }),
      new Uint8Array([9, 9]),
      new Uint8Array(0),
    ];
    for (let i = 0; i < LINK_LIMITS.malformedFrames; i++) rogue.raw(broken[i % broken.length]);
    expect((await rogue.closed).code).toBe(4422);
    expect((await chat()).status).toBe(200);
    const metrics = (await world.call("GET", "/metrics")).body as string;
    expect(metrics).toContain(
      `gfe_agent_frames_refused_total{code="malformed"} ${LINK_LIMITS.malformedFrames}`,
    );
  });

  it("a malformed delta fails its own attempt only", async () => {
    await begin();
    await join({
      onStart(start, agent) {
        const payload = new TextEncoder().encode('{"index":"zero"}');
        const frame = new Uint8Array(9 + payload.length);
        frame.set([3, 0, 0, 0, start.channel, 0, 0, 0, payload.length]);
        frame.set(payload, 9);
        agent.raw(frame);
        void agent.frame((f) => f.type === "attempt.cancel").then(() => agent.fail(start, "cancelled"));
      },
    });
    expect((await chat()).body.error.code).toBe("engine_failed");
  });

  it("a revoked agent token closes its socket within a second", async () => {
    await begin();
    const node = await join();
    const revokedAt = performance.now();
    await world.call("DELETE", `/api/v1/agent-tokens/${provider.agentTokenId}`, { session: provider });
    expect((await node.closed).code).toBe(4403);
    expect(performance.now() - revokedAt).toBeLessThan(1000);
    await expect(join()).rejects.toThrow("401");
  });
});

it("a slow reader holds its node back instead of filling the hub's memory", async () => {
  await begin({ GFE_SIGNUP_CREDITS: "1000" });
  const node = await join({ price: { ...PER_TOKEN, per_million_output: "1" }, onStart: () => {} });
  const outgoing = httpRequest(`${world.hub.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
  });
  outgoing.on("error", () => {});
  const responded = new Promise<void>((resolve) =>
    outgoing.once("response", (response) => {
      response.pause();
      response.on("error", () => {});
      resolve();
    }),
  );
  outgoing.end(
    JSON.stringify({
      model: "m",
      stream: true,
      max_tokens: 1000,
      messages: [{ role: "user", content: "hi" }],
    }),
  );
  await until(() => node.starts.length === 1, "it started");
  const paused = node.frame((frame) => frame.type === "attempt.pause");
  const { channel } = node.starts[0]!;
  let sending = true;
  void paused.then(() => {
    sending = false;
  });
  for (let i = 0; i < 2000 && sending; i++) {
    node.text(channel, "x".repeat(8192));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await responded;
  await paused;
  outgoing.destroy();
  await node.frame((frame) => frame.type === "attempt.cancel");
  node.fail(node.starts[0]!, "cancelled");
}, 60_000);

it("a caller whose credit ran out gets nothing of an answer that was begun in good faith", async () => {
  await begin();
  let spoken = 0;
  const node = await join({
    price: { ...PER_TOKEN, per_million_output: "0", per_request: "60000000" },
    onStart(start, agent) {
      agent.text(start.channel, "secret");
      spoken++;
      if (spoken === 1) void agent.done(start, 1);
    },
  });
  expect((await chat()).status).toBe(200); // 40 credits are left, and the next is expected to be covered too
  const answers = await Promise.all([chat(), chat({ stream: true })]);
  for (const { status, body } of answers) {
    expect(status).toBe(402);
    expect(JSON.stringify(body)).not.toContain("secret");
  }
  expect(await world.available(consumer)).toBe(40n * CREDIT);
  for (const { attempt } of node.starts.slice(1))
    await node.frame((frame) => frame.type === "attempt.cancel" && frame.attempt === attempt);
});

it("a key's budget bounds what is spent through it, however many ask at once", async () => {
  await begin();
  await join({ price: { ...PER_TOKEN, per_million_output: "0", per_request: "1000000" } });
  const made = await world.call("POST", "/api/v1/keys", {
    session: consumer,
    body: { label: "small", budget_micro: "3000000", scopes: ["inference"] },
  });
  const holder = { ...consumer, key: made.body.secret as string };
  const answers = await Promise.all(Array.from({ length: 12 }, () => chat({}, holder)));
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(3);
  expect(answers.filter(({ body }) => body.error?.code === "budget_exceeded")).toHaveLength(9);
  expect(await world.available(consumer)).toBe(97n * CREDIT);
});
