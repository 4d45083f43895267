import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { call, newAgentToken, newKey } from "../../testing/test-api.ts";
import { startTestHub, type TestHub } from "../../testing/test-hub.ts";
import { joinNode, type TestNode } from "../../testing/test-node.ts";
import { parseBody } from "../parse.ts";
import { responseIdOf } from "./ids.ts";
import { type Item, responsesBodySchema } from "./schemas.ts";
import { createResponseStore, type KeptResponse, RESPONSE_LIMITS, type ResponseStore } from "./store.ts";
import { chatBodyOf } from "./translate.ts";

describe("items become messages", () => {
  const messagesOf = (input: unknown) => {
    const asked = parseBody(responsesBodySchema, { model: "m", input });
    return chatBodyOf(asked, asked.input as Item[]).messages;
  };
  const called = (call_id: string) => ({ type: "function_call", call_id, name: "f", arguments: "{}" });
  const result = (call_id: string) => ({ type: "function_call_output", call_id, output: "ok" });

  it("of one turn are one message, of two calls with a result between them two", () => {
    expect(
      messagesOf([
        { role: "user", content: "Hi" },
        { type: "reasoning", id: "rs_1", summary: [{ type: "summary_text", text: "Hm." }] },
        { type: "message", role: "assistant", content: [{ type: "output_text", text: "Wait" }] },
        called("a"),
        called("b"),
        result("a"),
        result("b"),
        called("c"),
        result("c"),
      ]),
    ).toMatchObject([
      { role: "user", content: "Hi" },
      {
        role: "assistant",
        content: "Wait",
        reasoning_content: "Hm.",
        tool_calls: [{ id: "a" }, { id: "b" }],
      },
      { role: "tool", tool_call_id: "a" },
      { role: "tool", tool_call_id: "b" },
      { role: "assistant", tool_calls: [{ id: "c" }] },
      { role: "tool", tool_call_id: "c" },
    ]);
  });

  it("but a result of no call is refused", () => {
    expect(() => messagesOf([{ role: "user", content: "Hi" }, result("a")])).toThrow(
      /answers no earlier call/,
    );
  });

  it("log-probabilities are asked for where they are to be in the answer", () => {
    const asked = parseBody(responsesBodySchema, {
      model: "m",
      input: "Hi",
      include: ["message.output_text.logprobs"],
      top_logprobs: 3,
    });
    expect(chatBodyOf(asked, [])).toMatchObject({ logprobs: true, top_logprobs: 3 });
  });

  it.each([
    ["msg_01abcdefghijkmnpqrstvwxyz2_0", "resp_01abcdefghijkmnpqrstvwxyz2"],
    ["fco_01abcdefghijkmnpqrstvwxyz2_i12", "resp_01abcdefghijkmnpqrstvwxyz2"],
    ["msg_67ccd2bf17f0819081ff3bb2cf6508e6", null],
    ["' OR 1=1 --", null],
  ])("the id %s belongs to %s", (id, response) => expect(responseIdOf(id)).toBe(response));
});

let hub: TestHub;
let node: TestNode;
let userId: string;
let key: { key: string };

async function start(env: Record<string, string>) {
  hub = await startTestHub(env);
  const provider = await hub.signUp();
  const consumer = await hub.signUp();
  node = await joinNode(hub.url, (await newAgentToken(hub, provider)).secret);
  key = await newKey(hub, consumer, ["inference"]);
  userId = consumer.userId;
}
async function stop() {
  await node?.leave();
  await hub?.close();
}
const ask = (body: object) => call(hub, "POST /v1/responses", key, { model: "m", input: "Hi", ...body });

describe("the store", () => {
  beforeAll(() => start({ GFE_SIGNUP_CREDITS: "100" }));
  afterAll(stop);
  const kept = (id: string, previousId: string | null = null, text = ""): KeptResponse => ({
    ...{ id, previousId, input: [{ id: `${id}_i0`, text }] },
    response: { id, output: [] },
  });
  const storeWith = (limits: Partial<Record<keyof typeof RESPONSE_LIMITS, number>>) =>
    createResponseStore(hub.pool, 24, { ...RESPONSE_LIMITS, ...limits });

  const foundOf = async (store: ResponseStore, ...ids: string[]) => {
    const found = await store.findAll(userId, ids);
    return found === "too_long" ? found : [...found.keys()].sort();
  };

  it("brings back no more than a request may hold", async () => {
    const store = storeWith({ contextBytes: 1000 });
    for (const id of ["b1", "b2"]) await store.keep(userId, kept(id, null, "x".repeat(600)));
    expect([await foundOf(store, "b1"), await foundOf(store, "b1", "b2")]).toEqual([["b1"], "too_long"]);
  });

  it("gives an item once to a request that names it twice", async () => {
    const { body } = await ask({});
    const reference = { type: "item_reference", id: body.output[0].id };
    const next = { role: "user", content: "And?" };
    expect((await ask({ input: [reference, next] })).status).toBe(200);
    const twice = await ask({ input: [reference, reference, next] });
    expect([twice.status, twice.body.error.param]).toEqual([400, "input[1].id"]);
  });

  it("makes room for what is new: by number, and by bytes", async () => {
    const few = storeWith({ responses: 2 });
    for (const id of ["n1", "n2", "n3"]) await few.keep(userId, kept(id));
    expect(await foundOf(few, "n1", "n2", "n3")).toEqual(["n2", "n3"]);
    await storeWith({ bytesPerAccount: 960 }).keep(userId, kept("n4", null, "x".repeat(900)));
    expect(await foundOf(few, "n2", "n3", "n4")).toEqual(["n4"]);
  });

  it("tells a conversation oldest first, and no more turns than it may have", async () => {
    const store = storeWith({ turns: 3 });
    const ids = ["t1", "t2", "t3", "t4"];
    for (const [at, id] of ids.entries()) await store.keep(userId, kept(id, ids[at - 1] ?? null, "\u0000"));
    const told = async (id: string, by = store, who = userId) => {
      const { responses, beginsWith } = await by.conversation(who, id);
      return [beginsWith, ...responses.map((response) => response.id)];
    };
    expect(await told("t3")).toEqual(["its first", "t1", "t2", "t3"]);
    expect(await told("t4")).toEqual(["too_long", "t2", "t3", "t4"]);
    expect(await told("t3", storeWith({ contextBytes: 100 }))).toEqual(["too_long", "t2", "t3"]);
    expect(await told("t3", store, "somebody")).toEqual(["gone"]);
    await store.remove(userId, "t1");
    expect(await told("t3")).toEqual(["gone", "t2", "t3"]);
    expect((await store.find(userId, "t2"))!.input).toEqual([{ id: "t2_i0", text: "\u0000" }]);
  });

  it("that fails costs nobody an answer, which says that it was not kept", async () => {
    await hub.pool.query("ALTER TABLE responses RENAME TO away");
    const { status, body } = await ask({});
    await hub.pool.query("ALTER TABLE away RENAME TO responses");
    expect([status, body.status, body.store]).toEqual([200, "completed", false]);
  });
});

describe("a hub that keeps no responses", () => {
  beforeAll(() => start({ GFE_RESPONSE_HOURS: "0", GFE_SIGNUP_CREDITS: "100" }));
  afterAll(stop);

  it("says so in the answer, and names what would need one", async () => {
    const { body } = await ask({ store: true });
    expect(body).toMatchObject({ status: "completed", store: false });
    expect((await call(hub, `GET /v1/responses/${body.id}`, key)).status).toBe(404);
    const again = await ask({ previous_response_id: body.id });
    expect([again.status, again.body.error.param]).toEqual([400, "previous_response_id"]);
    expect(again.body.error.message).toContain("keeps no responses");
    const named = await ask({ input: [{ type: "item_reference", id: body.output[0].id }] });
    expect([named.status, named.body.error.param]).toEqual([400, "input[0].id"]);
    expect((await hub.pool.query("SELECT FROM responses")).rowCount).toBe(0);
  });
});
