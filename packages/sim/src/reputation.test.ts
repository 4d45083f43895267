/** What a node does shows in its reputation, with the reason; the honest are above all others. */

import type { NodeReputation } from "@gfe/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RogueAgent, type RogueOptions } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const JOBS = 12;
/** A node that fails so often in a row is asked no more for a while. */
const BREAKER_FAILURES = 5;
const DIGEST = `sha256:${"a".repeat(64)}`;

let world: World;
let consumer: Person;

async function begin(env: Record<string, string> = {}): Promise<void> {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "1000", GFE_FIRST_TOKEN_TIMEOUT_MS: "1500", ...env });
  consumer = await world.person("consumer");
}

/** Each has a model of its own, so that a test says whom it asks. */
async function join(model: string, options: Partial<RogueOptions> = {}): Promise<RogueAgent> {
  const { agentToken: token } = await world.person(model);
  return RogueAgent.join({ hubUrl: world.hub.url, token, model, name: model, ...options });
}

async function ask(model: string, jobs = JOBS): Promise<number[]> {
  const one = () =>
    world.call("POST", "/v1/chat/completions", {
      as: consumer,
      body: { model, messages: [{ role: "user", content: "hi" }], max_tokens: 2000 },
    });
  const answers = await Promise.all(Array.from({ length: jobs }, one));
  return answers.map(({ status }) => status);
}

type ModelReputation = NodeReputation["models"][number];
async function reputationOf({ nodeId }: RogueAgent): Promise<ModelReputation> {
  const { status, body } = await world.call("GET", `/api/v1/nodes/${nodeId}/reputation`);
  expect(status).toBe(200);
  return (body as NodeReputation).models[0]!;
}
const partOf = ({ parts }: ModelReputation, name: string) => parts.find((part) => part.name === name)!;

interface Rogue {
  what: string;
  reason: string;
  part: "success" | "audits";
  options: Partial<RogueOptions>;
}
let started = 0;
const rogues: Rogue[] = [
  {
    what: "claims more tokens than its bytes can hold",
    reason: "overclaimed",
    part: "audits",
    options: {
      onStart: (start, agent) => {
        agent.text(start.channel, "word");
        void agent.done(start, 1000);
      },
    },
  },
  {
    what: "signs receipts of another attempt",
    reason: "receipt_invalid",
    part: "audits",
    options: {
      onStart: (start, agent) => {
        agent.text(start.channel, "word");
        void agent
          .receipt("att_other", 1)
          .then((receipt) =>
            agent.send({ type: "attempt.done", attempt: start.attempt, finish: ["stop"], receipt }),
          );
      },
    },
  },
  {
    what: "fails half of its jobs",
    reason: "engine_failed",
    part: "success",
    options: {
      onStart: (start, agent) => {
        if (started++ % 2 === 0) return agent.fail(start);
        agent.text(start.channel, "word");
        void agent.done(start, 1);
      },
    },
  },
  {
    what: "stalls before the first token",
    reason: "first_token_timeout",
    part: "success",
    options: {
      onStart: () => {},
      onFrame: (frame, agent) => {
        if (frame.type === "attempt.cancel")
          agent.send({ type: "attempt.failed", attempt: frame.attempt, code: "cancelled", message: "" });
      },
    },
  },
  {
    what: "offers a model that its engine has not",
    reason: "engine_failed",
    part: "success",
    options: { onStart: (start, agent) => agent.fail(start, "engine_error") },
  },
];

describe("without canary prompts", () => {
  beforeAll(() => begin());
  afterAll(() => world.end());

  describe("a node that", () => {
    const its = new Map<string, ModelReputation>();
    beforeAll(async () => {
      const honest = await join("honest");
      its.set("honest", await of("honest", honest));
      await Promise.all(
        rogues.map(async ({ what, options }) => {
          const model = `model-${rogues.findIndex((rogue) => rogue.what === what)}`;
          its.set(what, await of(model, await join(model, options)));
        }),
      );
    });
    async function of(model: string, node: RogueAgent): Promise<ModelReputation> {
      await ask(model);
      return reputationOf(node);
    }

    it("is honest is above a newcomer, with nothing against it", () => {
      expect(its.get("honest")!.score).toBeGreaterThan(64);
      expect(its.get("honest")!.reasons).toEqual([]);
    });

    it.each(rogues)("$what is below an honest one, and its parts say why", ({ what, reason, part }) => {
      const [good, bad] = [its.get("honest")!, its.get(what)!];
      expect(bad.score).toBeLessThan(good.score - 10);
      expect(bad.reasons[0]).toMatchObject({ reason });
      expect(bad.reasons[0]!.weight).toBeGreaterThanOrEqual(BREAKER_FAILURES - 0.1);
      expect(partOf(bad, part).value).toBeLessThan(partOf(good, part).value);
      expect(bad.raise.length).toBeGreaterThan(0);
    });
  });

  it("a model is known by its digest, and a receipt that names another fails an audit", async () => {
    const announcement = {
      name: "n",
      gpus: [],
      slots: 1,
      models: [
        {
          model: "m",
          digest: DIGEST,
          context_length: 8192,
          capabilities: ["chat"],
          slots: 1,
          price: { per_request: "1", per_million_input: "0", per_million_output: "0" },
          engine: "scripted",
        },
      ],
    };
    const node = await join("identity", {
      announcement,
      onStart: (start, agent) => {
        agent.text(start.channel, "word");
        void agent
          .receipt(start.attempt, 1, 1, `sha256:${"b".repeat(64)}`)
          .then((receipt) =>
            agent.send({ type: "attempt.done", attempt: start.attempt, finish: ["stop"], receipt }),
          );
      },
    });
    await ask("m", 1);
    const its = await reputationOf(node);
    expect(its).toMatchObject({ model: DIGEST, names: ["m"], reasons: [{ reason: "digest_differs" }] });
    expect(its.score).toBeLessThan(30);
  });

  it("what is none of the node's doing does not count: callers that leave, requests that are wrong", async () => {
    const node = await join("wrongs", {
      onStart: (start, agent) => {
        if (agent.starts.length > 1)
          agent.send({
            type: "attempt.failed",
            attempt: start.attempt,
            code: "engine_refused",
            message: "no",
          });
      },
    });
    const leaving = new AbortController();
    const left = fetch(`${world.hub.url}/v1/chat/completions`, {
      method: "POST",
      signal: leaving.signal,
      headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "wrongs", messages: [{ role: "user", content: "hi" }] }),
    }).catch(() => null);
    await until(() => node.starts.length === 1, "it started");
    leaving.abort();
    await left;
    await node.frame(({ type }) => type === "attempt.cancel");
    node.fail(node.starts[0]!, "cancelled");
    await ask("wrongs", 3);
    expect(await reputationOf(node)).toMatchObject({ reasons: [], newcomer: true });
    expect((await reputationOf(node)).score).toBeCloseTo(64, 1);
  });

  it("nobody learns of a node that is not there", async () => {
    const { status } = await world.call("GET", "/api/v1/nodes/node_none/reputation");
    expect(status).toBe(404);
  });
});

describe("a canary prompt", () => {
  beforeAll(() => begin({ GFE_CANARY_INTERVAL: "1" }));
  afterAll(() => world.end());

  it("is passed by a node that answers, soon after it joined, costs nobody anything and makes no job", async () => {
    const node = await join("passing");
    const passed = async () => partOf(await reputationOf(node), "audits").value > 0.8;
    await until(passed, "an audit passed");
    const { rows } = await world.pool.query("SELECT 1 FROM jobs UNION ALL SELECT 1 FROM ledger_holds");
    expect(rows).toEqual([]);
    expect(node.starts[0]).toMatchObject({ kind: "chat", model: "passing", body: { max_tokens: 32 } });
  });

  it("that fails twice in a row costs an audit; once is forgiven", async () => {
    const broken = await join("broken", { onStart: (start, agent) => agent.fail(start) });
    const weak = await join("weak", {
      onStart: (start, agent) => {
        if (agent.starts.length === 1) return agent.fail(start);
        agent.text(start.channel, "word");
        void agent.done(start, 1);
      },
    });
    await until(async () => partOf(await reputationOf(broken), "audits").value < 0.5, "an audit failed");
    await until(async () => partOf(await reputationOf(weak), "audits").value > 0.8, "an audit passed");
    expect(broken.starts.length).toBeGreaterThanOrEqual(2);
    expect((await reputationOf(broken)).reasons[0]).toMatchObject({ reason: "canary" });
    expect((await reputationOf(weak)).reasons).toEqual([]);
  });

  it("gives back the slot that it took", async () => {
    const node = await join("slot", { slots: 1 });
    await until(() => node.starts.length >= 2, "two canaries came to the one slot");
    expect(await ask("slot", 1)).toEqual([200]);
  });
});
