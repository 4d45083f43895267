import { afterAll, beforeAll, expect, test } from "vitest";
import { call, newAgentToken } from "../testing/test-api.ts";
import { startTestHub, type TestHub } from "../testing/test-hub.ts";
import { announcementOf, joinNode, type TestNode } from "../testing/test-node.ts";

let hub: TestHub;
let node: TestNode;
beforeAll(async () => {
  hub = await startTestHub();
  const { secret } = await newAgentToken(hub, await hub.signUp());
  node = await joinNode(hub.url, secret);
});
afterAll(() => hub?.close());

test("a price that is no number is refused by name, and the hub and the node's offer go on", async () => {
  const price = { per_request: "1.5", per_million_input: "x", per_million_output: "0" };
  node.send({ type: "announce", announcement: announcementOf("odd", { price }) });
  expect(await node.frame("refused")).toMatchObject({
    code: "malformed",
    message: expect.stringContaining("announcement.models.0.price.per_request"),
    fatal: false,
  });
  const { body } = await call(hub, "GET /api/v1/market");
  expect(body.models).toMatchObject([{ model: "m", nodes: 1, price_from: { per_request: "1000000" } }]);
});
