import { agentSelfSchema, nodeEarningsSchema } from "@gfe/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { call, newAgentToken, newKey, type Person } from "../../testing/test-api.ts";
import { startTestHub, type TestHub } from "../../testing/test-hub.ts";
import { joinNode, type TestNode } from "../../testing/test-node.ts";

const CHAT = { model: "m", messages: [{ role: "user", content: "hi" }], max_tokens: 10 };

let hub: TestHub;
let provider: Person;
let stranger: Person;
let token: string;
let node: TestNode;
let key: string;

beforeAll(async () => {
  hub = await startTestHub();
  await hub.signUp(); // operates
  provider = await hub.signUp();
  stranger = await hub.signUp();
  const consumer = await hub.signUp();
  key = (await newKey(hub, consumer, ["inference"])).key;
  token = (await newAgentToken(hub, provider)).secret;
  node = await joinNode(hub.url, token, { name: "quick-fox" });
});
afterAll(() => hub?.close());

const earnings = (as?: Parameters<typeof call>[2], query = "") =>
  call(hub, `GET /api/v1/nodes/${node.nodeId}/earnings${query}`, as);

describe("a node's earnings", () => {
  test("are what its answers were paid after fees, today, this hour and since a moment", async () => {
    const before = await earnings({ key: token }, `?since=${new Date().toISOString()}`);
    expect(nodeEarningsSchema.parse(before.body)).toMatchObject({ today_micro: "0", jobs_today: 0 });
    const since = new Date().toISOString();
    for (let i = 0; i < 3; i++)
      expect((await call(hub, "POST /v1/chat/completions", { key }, CHAT)).status).toBe(200);
    const { status, body } = await earnings({ key: token }, `?since=${since}`);
    expect(status).toBe(200);
    // A request costs 1 credit, of which the hub keeps 5 %.
    const earned = "2850000";
    expect(body).toMatchObject({
      today_micro: earned,
      hour_micro: earned,
      since_micro: earned,
      jobs_today: 3,
      waiting: 0,
    });
    const me = await call(hub, "GET /api/v1/me", { cookie: provider.cookie });
    expect(body.available_micro).toBe(me.body.balance.available_micro);
    const later = new Date(Date.now() + 60_000).toISOString();
    expect((await earnings({ key: token }, `?since=${later}`)).body).toMatchObject({
      since_micro: "0",
      today_micro: earned,
    });
  });

  test("are told to its owner, and to nobody else", async () => {
    expect((await earnings({ cookie: provider.cookie })).status).toBe(200);
    const others = (await newAgentToken(hub, stranger)).secret;
    for (const as of [{ cookie: stranger.cookie }, { key: others }])
      expect([(await earnings(as)).status, (await earnings(as)).body.code]).toEqual([404, "not_found"]);
    expect((await earnings()).status).toBe(401);
    expect((await earnings({ key: "gfe_at_nonsense" })).status).toBe(401);
    expect((await earnings({ key })).status).toBe(403); // a key without the scope read
  });
});

describe("an agent token", () => {
  test("hears that it is valid, and which of its account's nodes a key is", async () => {
    const { rows } = await hub.pool.query<{ public_key: string }>(
      "SELECT public_key FROM nodes WHERE id = $1",
      [node.nodeId],
    );
    const self = (secret: string, nodeKey: string) =>
      call(hub, `GET /api/v1/agent-tokens/self?node_key=${nodeKey}`, { key: secret });
    const { body } = await self(token, rows[0]!.public_key);
    expect(agentSelfSchema.parse(body)).toEqual(body);
    expect(body.node_id).toBe(node.nodeId);
    const others = (await newAgentToken(hub, stranger)).secret;
    expect((await self(others, rows[0]!.public_key)).body.node_id).toBeNull();
    for (const as of [{ key }, { cookie: provider.cookie }])
      expect((await call(hub, "GET /api/v1/agent-tokens/self", as)).status).toBe(401);
  });

  test("revokes itself and nothing else, once it leaves", async () => {
    const [own, other] = [
      (await newAgentToken(hub, provider)).secret,
      (await newAgentToken(hub, provider)).secret,
    ];
    expect((await call(hub, "DELETE /api/v1/agent-tokens/self", { key: own })).status).toBe(204);
    expect((await call(hub, "GET /api/v1/agent-tokens/self", { key: own })).status).toBe(401);
    expect((await call(hub, "GET /api/v1/agent-tokens/self", { key: other })).status).toBe(200);
  });
});

describe("a node is forgotten", () => {
  const forget = (id: string, as?: Parameters<typeof call>[2]) => call(hub, `DELETE /api/v1/nodes/${id}`, as);

  test("only while it is offline, only by its owner or its agent; its earnings stay", async () => {
    const leaving = await joinNode(hub.url, token, { name: "old-dog" });
    expect((await forget(leaving.nodeId, { key: token })).body.code).toBe("conflict");
    await leaving.leave();
    expect((await forget(leaving.nodeId, { cookie: stranger.cookie })).status).toBe(404);
    const balance = (await call(hub, "GET /api/v1/me", { cookie: provider.cookie })).body.balance;
    await expect.poll(async () => (await forget(leaving.nodeId, { key: token })).status).toBe(204);
    expect((await forget(leaving.nodeId, { key: token })).status).toBe(404);
    const { body } = await call(hub, "GET /api/v1/nodes", { cookie: provider.cookie });
    expect(body.nodes.map(({ name }: { name: string }) => name)).toEqual(["quick-fox"]);
    expect((await call(hub, "GET /api/v1/me", { cookie: provider.cookie })).body.balance).toEqual(balance);
  });
});
