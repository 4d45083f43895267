import { type PriceWire, priceListSchema, setPriceSchema } from "@gfe/protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createRegistry, type NodeEntry } from "../../market/registry.ts";
import { createPriceBook, PRICES_PER_OWNER_MAX } from "../../prices/price-book.ts";
import { call, newAgentToken, newKey, type Person } from "../../testing/test-api.ts";
import { startTestHub, type TestHub } from "../../testing/test-hub.ts";
import { LiveReader } from "../../testing/test-live.ts";
import { announcementOf, joinNode, type TestNode } from "../../testing/test-node.ts";

let hub: TestHub;
let provider: Person;
let other: Person;
let as: { key: string };
let node: TestNode;

const priceOf = (request: string): PriceWire => ({
  per_request: request,
  per_million_input: "0",
  per_million_output: "0",
});
const put = (body: object, who: Parameters<typeof call>[2] = as) =>
  call(hub, "PUT /api/v1/prices", who, body);
const list = async () => {
  const { body } = await call(hub, "GET /api/v1/prices", as);
  expect(priceListSchema.parse(body)).toEqual(body);
  return priceListSchema.parse(body);
};
/** What the market asks for a request of the model. */
const asked = async (model = "m") => {
  const { body } = await call(hub, "GET /api/v1/market");
  return body.models.find((found: { model: string }) => found.model === model)?.price_from.per_request;
};

beforeAll(async () => {
  hub = await startTestHub();
  provider = await hub.signUp();
  other = await hub.signUp();
  as = { key: (await newKey(hub, provider, ["manage"])).key };
});
afterAll(() => hub?.close());
beforeEach(async () => {
  const token = (await newAgentToken(hub, provider)).secret;
  node = await joinNode(hub.url, token, { name: "attic", offer: { price: priceOf("1") } });
});
afterEach(async () => {
  await node.leave();
  await hub.pool.query("DELETE FROM prices");
});

describe("a price that a provider sets", () => {
  test("is in force when the call returns, for a node that is connected", async () => {
    expect(await asked()).toBe("1");
    const { status, body } = await put({ model: "m", price: priceOf("7") });
    expect([status, setPriceSchema.parse(body)]).toEqual([200, body]);
    expect(body).toMatchObject({ node_id: null, model: "m", price: priceOf("7") });
    expect(await asked()).toBe("7");
  });

  test("goes before what the agent says later, and after it connected again", async () => {
    await put({ price: priceOf("7") });
    const announcement = announcementOf("attic", { price: priceOf("2"), slots: 3 });
    const live = await LiveReader.open(hub);
    node.send({ type: "announce", announcement });
    await live.event((event) => event.type === "models" && event.models[0]?.slots === 3);
    await live.leave();
    expect(await asked()).toBe("7");
    const second = await joinNode(hub.url, (await newAgentToken(hub, provider)).secret, {
      name: "cellar",
      offer: { model: "n", price: priceOf("1") },
    });
    expect(await asked("n")).toBe("7");
    await second.leave();
  });

  test("is told on the live stream", async () => {
    const live = await LiveReader.open(hub);
    await put({ price: priceOf("77") });
    await live.event(
      (event) => event.type === "models" && event.models.some((m) => m.price_from.per_request === "77"),
    );
    await live.leave();
  });

  test("gives way to a closer one, and comes back when that is unset", async () => {
    const at = { node_id: node.nodeId };
    for (const [place, request] of [
      [{}, "2"],
      [{ model: "m" }, "3"],
      [at, "4"],
      [{ ...at, model: "m" }, "5"],
    ] as const) {
      await put({ ...place, price: priceOf(request) });
      expect(await asked()).toBe(request);
    }
    for (const [query, request] of [
      [`?node_id=${node.nodeId}&model=m`, "4"],
      [`?node_id=${node.nodeId}`, "3"],
      ["?model=m", "2"],
      ["", "1"],
    ]) {
      expect((await call(hub, `DELETE /api/v1/prices${query}`, as)).status).toBe(204);
      expect(await asked()).toBe(request);
    }
    expect((await call(hub, "DELETE /api/v1/prices", as)).status).toBe(404);
  });

  test("is listed with the models it is for, what the agent said, and the median of others", async () => {
    const token = (await newAgentToken(hub, other)).secret;
    const rivals = await Promise.all(
      ["8", "9", "30"].map((request) =>
        joinNode(hub.url, token, { name: request, offer: { price: priceOf(request) } }),
      ),
    );
    await put({ model: "m", price: { ...priceOf("7"), minimum: "2", batch_discount: 10 } });
    const { prices, models } = await list();
    expect(prices).toMatchObject([{ node_id: null, model: "m" }]);
    expect(models.filter(({ node_id }) => node_id === node.nodeId)).toEqual([
      {
        node_id: node.nodeId,
        node_name: "attic",
        online: true,
        model: "m",
        announced: priceOf("1"),
        price: { ...priceOf("7"), minimum: "2", batch_discount: 10 },
        source: "model",
        market_median: priceOf("9"),
      },
    ]);
    for (const rival of rivals) await rival.leave();
  });

  test("shows in the provider's nodes, whether they are connected or not", async () => {
    await put({ price: priceOf("7") });
    const { key } = await newKey(hub, provider, ["read"]);
    const { body } = await call(hub, "GET /api/v1/nodes", { key });
    const asks = body.nodes.map((one: { online: boolean; models: { price: PriceWire }[] }) => [
      one.online,
      one.models[0]?.price.per_request,
    ]);
    expect(asks).toContainEqual([true, "7"]);
    expect(asks).toContainEqual([false, "7"]);
  });

  test("reaches another hub on the same database", async () => {
    const registry = createRegistry();
    const book = createPriceBook({ pool: hub.pool, registry, log: { warn() {} } });
    let told = false;
    registry.onChange(({ type }) => {
      told ||= type === "announced";
    });
    const entry = {
      nodeId: node.nodeId,
      ownerId: provider.userId,
      announcement: announcementOf("attic", { price: priceOf("1") }),
      runningByModel: new Map(),
    } as unknown as NodeEntry;
    await book.load(provider.userId);
    entry.announcement = book.priced(entry, entry.announcement);
    registry.add(entry);
    // Said again until it is heard: the other hub may not listen yet.
    await expect
      .poll(async () => {
        await put({ price: priceOf("7") });
        return told;
      })
      .toBe(true);
    expect(entry.announcement.models[0]!.price).toEqual(priceOf("7"));
    await book.close();
  });
});

describe("what is refused changes nothing, and is told by its name", () => {
  test.each<[string, object, string]>([
    ["no price", {}, "price"],
    ["an amount that is none", { price: { ...priceOf("1"), per_request: "0.5" } }, "price.per_request"],
    [
      "cached input above input",
      { price: { ...priceOf("1"), per_million_cached_input: "1" } },
      "price.per_million_cached_input",
    ],
    ["too great a discount", { price: { ...priceOf("1"), batch_discount: 91 } }, "price.batch_discount"],
    ["an amount above the limit", { price: priceOf("1000000000001") }, "price.per_request"],
    ["a part nobody knows", { price: { ...priceOf("1"), per_image: "1" } }, "price"],
    ["a name that is none", { model: "a\nb", price: priceOf("2") }, "model"],
    ["another's or no node", { node_id: "node_x", price: priceOf("2") }, "node_id"],
  ])("%s", async (_name, body, param) => {
    const answer = await put(body);
    expect([answer.status, answer.body.param]).toEqual([param === "node_id" ? 404 : 400, param]);
    expect((await list()).prices).toEqual([]);
  });

  test("another account's node", async () => {
    const { key } = await newKey(hub, other, ["manage"]);
    const answer = await put({ node_id: node.nodeId, price: priceOf("9") }, { key });
    expect([answer.status, answer.body.param]).toEqual([404, "node_id"]);
    expect(await asked()).toBe("1");
  });

  test("another account's prices stay its own", async () => {
    await put({ price: priceOf("7") });
    const { key } = await newKey(hub, other, ["manage"]);
    expect((await call(hub, "DELETE /api/v1/prices", { key })).status).toBe(404);
    expect((await call(hub, "GET /api/v1/prices", { key })).body.prices).toEqual([]);
    expect(await asked()).toBe("7");
  });

  test("a key without the scope", async () => {
    const { key } = await newKey(hub, provider, ["read", "inference"]);
    for (const [request, body] of [
      ["GET /api/v1/prices", undefined],
      ["PUT /api/v1/prices", { price: priceOf("2") }],
      ["DELETE /api/v1/prices", undefined],
    ] as const)
      expect((await call(hub, request, { key }, body)).body.code).toBe("scope_missing");
  });

  test("more prices than an account may set, but not a change of one it has", async () => {
    await hub.pool.query(
      `INSERT INTO prices (owner_id, model, price) SELECT $1, 'x' || n, $2 FROM generate_series(1, $3) n`,
      [provider.userId, JSON.stringify(priceOf("1")), PRICES_PER_OWNER_MAX],
    );
    expect((await put({ model: "one more", price: priceOf("2") })).status).toBe(409);
    expect((await put({ model: "x1", price: priceOf("2") })).status).toBe(200);
  });
});
