/** The forerunner's defects, each by name: they cannot happen here. */
import type { AttemptStart } from "@gfe/protocol";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RogueAgent } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
let world: World;
let provider: Person;
let consumer: Person;

beforeEach(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "10", GFE_QUEUE_WAIT_MS: "300" });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
});
afterEach(() => world.end());

const join = (options: Partial<Parameters<typeof RogueAgent.join>[0]> = {}) =>
  RogueAgent.join({ hubUrl: world.hub.url, token: provider.agentToken, ...options });
const chat = (as = consumer, body: object = {}) =>
  world.call("POST", "/v1/chat/completions", {
    as,
    body: { model: "m", messages: [{ role: "user", content: "hi" }], max_tokens: 100, ...body },
  });

describe("money", () => {
  it("a job goes to exactly one node: 3 nodes, 1 job, 1 payment", async () => {
    const nodes = await Promise.all([1, 2, 3].map((n) => join({ name: `n${n}` })));
    expect((await chat()).status).toBe(200);
    expect(nodes.flatMap(({ starts }) => starts)).toHaveLength(1);
    expect(await world.available(consumer)).toBe(9n * CREDIT);
    expect(await world.available(provider)).toBe(10n * CREDIT + 950_000n);
  });

  it("replaying one result 20 times pays once, and each replay is answered `exists`", async () => {
    const node = await join();
    await chat();
    for (let i = 0; i < 20; i++) await node.done(node.starts[0]!, 100);
    await until(
      () => node.frames.filter((frame) => frame.type === "refused" && frame.code === "exists").length === 20,
      "20 replays were answered",
    );
    expect(await world.available(provider)).toBe(10n * CREDIT + 950_000n);
  });

  it("a socket can neither complete nor fail another node's job", async () => {
    let started: (start: AttemptStart) => void = () => {};
    const start = new Promise<AttemptStart>((resolve) => {
      started = resolve;
    });
    const honest = await join({ onStart: (s) => started(s) });
    const thief = await world.person("thief");
    const rogue = await RogueAgent.join({ hubUrl: world.hub.url, token: thief.agentToken, model: "other" });
    const answer = chat();
    const { attempt, channel } = await start;
    rogue.text(channel, "stolen");
    rogue.send({
      type: "attempt.done",
      attempt,
      finish: ["stop"],
      receipt: await rogue.receipt(attempt, 50),
    });
    rogue.send({ type: "attempt.failed", attempt, code: "engine_error", message: "mine" });
    await until(
      () =>
        rogue.frames.filter((frame) => frame.type === "refused" && frame.code === "unknown_attempt")
          .length === 2,
      "both were refused",
    );
    honest.text(channel, "mine");
    await honest.done(await start, 1);
    expect((await answer).body.choices[0].message.content).toBe("mine");
    expect(await world.available(thief)).toBe(10n * CREDIT);
  });

  it("ids are not sequential: knowing one job tells nothing of the next", async () => {
    await join();
    const ids = (await Promise.all([chat(), chat()])).map(({ body }) => body.x_gfe.job_id as string);
    expect(ids[0]!.slice(-16)).not.toBe(ids[1]!.slice(-16));
    expect(new Set([...ids[0]!.slice(-16)]).size).toBeGreaterThan(4);
  });

  it("60 concurrent jobs on 10 credits charge exactly 10", async () => {
    await join();
    const answers = await Promise.all(Array.from({ length: 60 }, () => chat()));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(10);
    expect(
      answers.filter(({ status, body }) => status === 402 && body.error.code === "insufficient_quota"),
    ).toHaveLength(50);
    expect(await world.available(consumer)).toBe(0n);
  });

  it("a failed job returns its hold", async () => {
    await join({ onStart: (start, agent) => agent.fail(start) });
    expect((await chat()).status).toBe(502);
    expect(await world.available(consumer)).toBe(10n * CREDIT);
  });

  it("an abandoned job returns its hold", async () => {
    const node = await join({ onStart: (_start, agent) => agent.die() });
    expect((await chat()).status).toBe(502);
    await node.closed;
    expect(await world.available(consumer)).toBe(10n * CREDIT);
  });

  it("a late `failed` cannot overwrite a paid `completed`", async () => {
    const node = await join();
    const { body } = await chat();
    node.fail(node.starts[0]!);
    await node.frame((frame) => frame.type === "refused" && frame.code === "exists");
    const job = await world.call("GET", `/api/v1/jobs/${body.x_gfe.job_id}`, { as: consumer });
    expect(job.body).toMatchObject({ state: "completed", cost_micro: "1000000" });
  });

  it("no address credits anybody: deposits, negative or not, do not exist unauthenticated", async () => {
    for (const path of ["/api/payments/webhook/", "/api/v1/deposit", "/api/computing/deposit/"]) {
      expect((await world.call("POST", path, { body: { amount: -5, user: consumer.userId } })).status).toBe(
        404,
      );
    }
    expect(await world.available(consumer)).toBe(10n * CREDIT);
  });

  it("the signup credit is a row of the ledger, and both sides of it are", async () => {
    const { body } = await world.call("GET", "/api/v1/ledger", { as: consumer });
    expect(body.entries).toMatchObject([
      { amount_micro: "10000000", code: "signup", counterparty: "hub:signup" },
    ]);
    expect((await world.ledger.balance("hub:signup"))?.posted).toBe(-20n * CREDIT);
  });
});

describe("who may do what", () => {
  it("a stranger who names a node's key cannot take it offline, nor seize it", async () => {
    const node = await join();
    const stranger = await world.person("stranger");
    const forged = { publicKey: node.signer.publicKey, sign: async () => "A".repeat(86) };
    await expect(
      RogueAgent.join({ hubUrl: world.hub.url, token: stranger.agentToken, signer: forged }),
    ).rejects.toThrow("4406");
    await expect(
      RogueAgent.join({ hubUrl: world.hub.url, token: stranger.agentToken, signer: node.signer }),
    ).rejects.toThrow("4406");
    await expect(RogueAgent.join({ hubUrl: world.hub.url, token: "gfe_at_nonsense" })).rejects.toThrow("401");
    expect((await chat()).status).toBe(200);
    expect(node.starts).toHaveLength(1);
  });

  it("an owner is never matched with, or paid for serving, its own account", async () => {
    const node = await join();
    const { status, body } = await chat(provider);
    expect([status, body.error.code]).toEqual([400, "no_own_node"]);
    expect(node.starts).toHaveLength(0);
    expect(await world.available(provider)).toBe(10n * CREDIT);
  });

  it("nobody can write its own role", async () => {
    await world.call("POST", "/api/auth/update-user", {
      session: consumer,
      body: { role: "operator", name: "still me" },
    });
    await world.call("POST", "/api/auth/sign-up/email", {
      body: { name: "x", email: "x@example.org", password: "correct horse", role: "operator" },
      headers: { origin: world.hub.url },
    });
    const { rows } = await world.pool.query(`SELECT "email" FROM "user" WHERE "role" = 'operator'`);
    expect(rows.map(({ email }) => email)).toEqual([expect.stringContaining("provider")]);
  });

  it("no secret is taken from an address", async () => {
    for (const query of [
      `token=${consumer.key}`,
      `access_token=${consumer.key}`,
      `api_key=${consumer.key}`,
    ]) {
      expect((await world.call("GET", `/api/v1/me?${query}`)).status).toBe(401);
    }
    const upgrade = await fetch(`${world.hub.url}/agent/v1/link?token=${provider.agentToken}`);
    expect(upgrade.status).toBe(404);
  });

  it("another's job is 403, in both dialects", async () => {
    await join();
    const { body } = await chat();
    const other = await world.person("other");
    for (const path of [`/api/v1/jobs/${body.x_gfe.job_id}`, `/api/computing/jobs/${body.x_gfe.job_id}/`]) {
      expect((await world.call("GET", path, { as: other })).status).toBe(403);
    }
  });
});

it("log-ins are throttled: the fourth bad password in a row is 429", async () => {
  const strict = await startWorld({ GFE_LOGINS_MAX: "3" });
  try {
    const statuses: number[] = [];
    for (let i = 0; i < 4; i++) {
      const { status } = await strict.call("POST", "/api/auth/sign-in/email", {
        body: { email: "a@example.org", password: "wrong wrong" },
        headers: { origin: strict.hub.url, "x-forwarded-for": `10.0.0.${i}` },
      });
      statuses.push(status);
    }
    expect(statuses).toEqual([401, 401, 401, 429]);
  } finally {
    await strict.end();
  }
});

describe("robustness", () => {
  it("one provider's odd announcement is refused and breaks no public endpoint", async () => {
    await join();
    await expect(
      join({ announcement: { name: 5, models: "all of them" }, signer: undefined }),
    ).rejects.toThrow();
    const odd = await join({ name: "odd" });
    odd.raw({
      type: "announce",
      announcement: { name: "odd", gpus: [], slots: 1, models: [{ model: { llama: true } }] },
    });
    await odd.frame((frame) => frame.type === "refused");
    for (const path of ["/api/computing/models/", "/api/computing/stats/", "/api/v1/market", "/v1/models"]) {
      expect((await world.call("GET", path)).status).toBe(200);
    }
  }, 40_000);

  it("a prompt that is no string is refused by name and breaks no list", async () => {
    await join();
    for (const prompt of [5, null, { a: 1 }, ["x"], undefined]) {
      const { status, body } = await world.call("POST", "/api/computing/submit-job/", {
        as: consumer,
        body: { model: "m", prompt },
      });
      expect([status, body.param]).toEqual([400, "prompt"]);
    }
    expect((await world.call("GET", "/api/computing/jobs/", { as: consumer })).body).toEqual([]);
  });

  it("days=abc is 400, not 500", async () => {
    const { status, body } = await world.call("GET", "/api/computing/provider-stats/?days=abc", {
      as: consumer,
    });
    expect([status, body.param]).toEqual([400, "days"]);
  });

  it("unknown models are 404 and not charged", async () => {
    await join();
    const { status, body } = await chat(consumer, { model: "nobody-has-this" });
    expect([status, body.error.code]).toEqual([404, "model_not_found"]);
    expect(
      (
        await world.call("POST", "/api/computing/submit-job/", {
          as: consumer,
          body: { model: "nobody", prompt: "x" },
        })
      ).status,
    ).toBe(404);
    expect(await world.available(consumer)).toBe(10n * CREDIT);
  });

  it("a node that left is not listed any more", async () => {
    const node = await join();
    expect((await world.call("GET", "/api/computing/models/")).body.total_nodes).toBe(1);
    node.die();
    await until(
      async () => (await world.call("GET", "/api/computing/models/")).body.total_nodes === 0,
      "the node is gone",
    );
    expect((await world.call("GET", "/v1/models")).body.data).toEqual([]);
  });

  it("two sockets of one node: the newer takes over, the node stays online", async () => {
    const first = await join();
    const second = await join({ signer: first.signer });
    expect(second.nodeId).toBe(first.nodeId);
    expect((await first.closed).code).toBe(4409);
    expect((await chat()).status).toBe(200);
    expect(second.starts).toHaveLength(1);
  });

  it("400 submits all end, none lost silently, and each charged one is completed", async () => {
    const rich = await startWorld({ GFE_SIGNUP_CREDITS: "1000", GFE_QUEUE_WAIT_MS: "20000" });
    try {
      const [owner, buyer] = [await rich.person("owner"), await rich.person("buyer")];
      await RogueAgent.join({ hubUrl: rich.hub.url, token: owner.agentToken, slots: 4 });
      const answers = await Promise.all(
        Array.from({ length: 400 }, () =>
          rich.call("POST", "/api/computing/submit-job/", { as: buyer, body: { model: "m", prompt: "hi" } }),
        ),
      );
      const accepted = answers.filter(({ status }) => status === 201);
      expect(accepted).toHaveLength(400);
      await until(
        async () => (await rich.pool.query("SELECT 1 FROM jobs WHERE state = 'running'")).rowCount === 0,
        "all jobs ended",
      );
      const { rows } = await rich.pool.query("SELECT state, count(*)::int AS n FROM jobs GROUP BY state");
      expect(rows).toEqual([{ state: "completed", n: 400 }]);
      expect(await rich.available(buyer)).toBe(600n * CREDIT);
    } finally {
      await rich.end();
    }
  }, 60_000);

  it("jobs show as running while they run", async () => {
    let release: () => void = () => {};
    const node = await join({
      onStart(start, agent) {
        agent.text(start.channel, "w");
        release = () => void agent.done(start, 1);
      },
    });
    const answer = chat();
    await until(() => node.starts.length === 1, "the job started");
    const { body } = await world.call("GET", "/api/v1/jobs?state=running", { as: consumer });
    expect(body.jobs).toHaveLength(1);
    release();
    await answer;
  });
});
