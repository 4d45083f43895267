import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import {
  type AgentFrame,
  CLOSE,
  createSigner,
  generateKeyPair,
  type HubFrame,
  LINK_PATH,
  nodeProof,
  PROTOCOL_VERSION,
  randomToken,
  type Signer,
} from "@gfe/protocol";
import type { Pool } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { createRegistry } from "../market/registry.ts";
import { call, newAgentToken, newKey, type Person } from "../testing/test-api.ts";
import { startTestHub, type TestHub } from "../testing/test-hub.ts";
import { announcementOf, joinNode } from "../testing/test-node.ts";
import { createLink } from "./link.ts";
import { STRANGERS_PER_ADDRESS_MAX } from "./strangers.ts";

let hub: TestHub;
let owner: Person;
let token: string;
const sockets: WebSocket[] = [];

beforeAll(async () => {
  hub = await startTestHub();
  owner = await hub.signUp();
  token = (await newAgentToken(hub, owner)).secret;
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.terminate();
});
afterAll(() => hub?.close());

interface Raw {
  socket: WebSocket;
  challenge: Extract<HubFrame, { type: "challenge" }>;
  /** The code that the hub closes with. */
  closed: Promise<number>;
  next(type: HubFrame["type"]): Promise<HubFrame>;
  send(frame: unknown): void;
}

/** A socket that has its challenge and has said nothing. */
async function dial(secret = token): Promise<Raw> {
  const url = new URL(LINK_PATH, hub.url.replace(/^http/, "ws"));
  const socket = new WebSocket(url, { headers: { authorization: `Bearer ${secret}` } });
  sockets.push(socket);
  const frames: HubFrame[] = [];
  socket.on("message", (data) => void frames.push(JSON.parse(String(data))));
  const closed = new Promise<number>((resolve) => socket.once("close", resolve));
  const next = async (type: HubFrame["type"]): Promise<HubFrame> => {
    for (;;) {
      const found = frames.find((frame) => frame.type === type);
      if (found) return frames.splice(frames.indexOf(found), 1)[0]!;
      await new Promise((resolve, reject) => socket.once("message", resolve).once("error", reject));
    }
  };
  const challenge = (await next("challenge")) as Raw["challenge"];
  const send = (frame: unknown) => socket.send(JSON.stringify(frame));
  return { socket, challenge, closed, next, send };
}

/** A hello that is right, of a node that nobody knows yet. */
async function helloFor({ challenge }: Raw, name = "raw"): Promise<Extract<AgentFrame, { type: "hello" }>> {
  const signer = await createSigner(await generateKeyPair());
  const keys = { node_key: signer.publicKey, node_nonce: randomToken(32) };
  const proof = await signer.sign(nodeProof({ hub_key: challenge.hub_key, nonce: challenge.nonce, ...keys }));
  const announcement = announcementOf(name, { model: name });
  return { type: "hello", version: PROTOCOL_VERSION, agent_version: "raw", ...keys, proof, announcement };
}

const modelsOnOffer = async (): Promise<string[]> =>
  (await call(hub, "GET /api/v1/market")).body.models.map(({ model }: { model: string }) => model);

test("a price that is no number is refused by name, and the hub and the node's offer go on", async () => {
  const node = await joinNode(hub.url, token);
  const price = { per_request: "1.5", per_million_input: "x", per_million_output: "0" };
  node.send({ type: "announce", announcement: announcementOf("odd", { price }) });
  expect(await node.frame("refused")).toMatchObject({
    code: "malformed",
    message: expect.stringContaining("announcement.models.0.price.per_request"),
    fatal: false,
  });
  const { body } = await call(hub, "GET /api/v1/market");
  expect(body.models).toMatchObject([{ model: "m", nodes: 1, price_from: { per_request: "1000000" } }]);
  await node.leave();
});

describe("a socket is closed, with a code that says why,", () => {
  test.each<[string, number, (raw: Raw) => Promise<unknown>]>([
    ["that says anything before hello", CLOSE.malformed, async () => ({ type: "drain", draining: true })],
    ["whose hello is none", CLOSE.malformed, async () => ({ type: "hello" })],
    ["of another version", CLOSE.versionRefused, async (raw) => ({ ...(await helloFor(raw)), version: 99 })],
    [
      "that signed another hub's challenge",
      CLOSE.proofRefused,
      async (raw) => helloFor({ ...raw, challenge: { ...raw.challenge, nonce: randomToken(32) } }),
    ],
    [
      "that shows a proof made for another key",
      CLOSE.proofRefused,
      async (raw) => ({ ...(await helloFor(raw)), node_key: (await helloFor(raw)).node_key }),
    ],
  ])("%s", async (_name, code, frame) => {
    const raw = await dial();
    raw.send(await frame(raw));
    expect(await raw.closed).toBe(code);
    expect(await modelsOnOffer()).toEqual([]);
  });
});

test("a hello that was overheard is of no use on another socket", async () => {
  const [first, second] = [await dial(), await dial()];
  const hello = await helloFor(first, "overheard");
  first.send(hello);
  await first.next("welcome");
  second.send(hello);
  expect(await second.closed).toBe(CLOSE.proofRefused);
  expect(await modelsOnOffer()).toEqual(["overheard"]);
  first.socket.close();
  await expect.poll(modelsOnOffer).toEqual([]);
});

test("a socket is one node: what it says it is after hello leaves nothing behind", async () => {
  const raw = await dial();
  const [one, two] = [await helloFor(raw, "one"), await helloFor(raw, "two")];
  raw.send(one);
  raw.send(two);
  // The second is refused, or the socket closed for it: both would do.
  await Promise.race([raw.next("welcome").then(() => raw.next("welcome")), raw.next("refused"), raw.closed]);
  raw.socket.close();
  await raw.closed;
  await expect.poll(modelsOnOffer, { timeout: 3_000 }).toEqual([]);
});

/** A link alone, on no database. */
async function linkTrusting(trustedProxies: string[]) {
  const registry = createRegistry();
  const server = createServer();
  const query = async (_text: string, [id, owner_id]: string[]) => ({ rows: [{ id, owner_id }] });
  const link = createLink({
    server,
    pool: { query } as unknown as Pool,
    registry,
    signer: await createSigner(await generateKeyPair()),
    prices: { load: async () => {}, priced: (_node, announcement) => announcement },
    authenticate: async (tokenId) => ({ userId: "owner", tokenId }),
    trustedProxies,
    onJoined: () => {},
    onRevoked: () => {},
    nowMs: Date.now,
    onRefused: () => {},
    log: { info() {}, warn() {} },
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    async blockOf(forwardedFor: string) {
      const headers = { "x-forwarded-for": forwardedFor };
      const node = await joinNode(`http://127.0.0.1:${port}`, "any", { headers });
      return registry.get(node.nodeId)!.addressBlock;
    },
    async end() {
      await link.close();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe("the block of addresses that a node connects from", () => {
  test("is none on this machine, and what a trusted proxy says of those beyond it", async () => {
    for (const [trusted, block] of [
      [[], undefined],
      [["127.0.0.1"], "9.9.9.0/24"],
    ] as const) {
      const link = await linkTrusting([...trusted]);
      expect(await link.blockOf("8.8.8.8, 9.9.9.9")).toBe(block);
      await link.end();
    }
  });

  test("is told to nobody, also not to its owner", async () => {
    const trusting = await startTestHub({ GFE_TRUSTED_PROXIES: "127.0.0.1" });
    try {
      const person = await trusting.signUp();
      const { secret } = await newAgentToken(trusting, person);
      const key = await newKey(trusting, person, ["read", "inference"]);
      await joinNode(trusting.url, secret, { headers: { "x-forwarded-for": "9.9.9.9" } });
      const told = [
        await call(trusting, "GET /api/v1/market"),
        await call(trusting, "GET /api/v1/nodes", key),
        await call(trusting, "POST /api/v1/match/explain", key, {
          model: "m",
          messages: [{ role: "user", content: "hi" }],
        }),
      ];
      expect(told.map(({ status }) => status)).toEqual([200, 200, 200]);
      expect(JSON.stringify(told)).toContain('"m"');
      expect(JSON.stringify(told)).not.toContain("9.9.9");
    } finally {
      await trusting.close();
    }
  });
});

test("frames of a type that only a newer agent knows are ignored, as the contract says", async () => {
  const raw = await dial();
  raw.send(await helloFor(raw, "newer"));
  await raw.next("welcome");
  for (let i = 0; i < 30; i++) raw.send({ type: "mood", mood: "good" });
  raw.send({ type: "attempt.failed", attempt: "att_none", code: "busy", message: "" });
  const answered = await raw.next("refused");
  expect(answered).toMatchObject({ code: "unknown_attempt" });
});

describe("a stolen node key", () => {
  /** A socket of somebody's that proves a given key. */
  async function joinWith(secret: string, signer: Signer, name: string): Promise<Raw> {
    const raw = await dial(secret);
    const keys = { node_key: signer.publicKey, node_nonce: randomToken(32) };
    const proof = await signer.sign(
      nodeProof({ hub_key: raw.challenge.hub_key, nonce: raw.challenge.nonce, ...keys }),
    );
    const announcement = announcementOf(name, { model: name });
    raw.send({
      type: "hello",
      version: PROTOCOL_VERSION,
      agent_version: "raw",
      ...keys,
      proof,
      announcement,
    });
    return raw;
  }

  test("opens nothing with another account's token: the node stays its owner's, and online", async () => {
    const signer = await createSigner(await generateKeyPair());
    const own = await joinWith(token, signer, "owned");
    await own.next("welcome");
    const thief = (await newAgentToken(hub, await hub.signUp())).secret;
    expect(await (await joinWith(thief, signer, "stolen")).closed).toBe(CLOSE.proofRefused);
    expect(await modelsOnOffer()).toEqual(["owned"]);
    expect(own.socket.readyState).toBe(WebSocket.OPEN);
    own.socket.close();
    await expect.poll(modelsOnOffer).toEqual([]);
  });

  test("with its account's token makes one node of the two: the older socket is told, which its owner sees", async () => {
    const signer = await createSigner(await generateKeyPair());
    const first = await joinWith(token, signer, "first");
    await first.next("welcome");
    const second = await joinWith(token, signer, "second");
    await second.next("welcome");
    expect(await first.closed).toBe(CLOSE.replaced);
    expect(await modelsOnOffer()).toEqual(["second"]);
    second.socket.close();
    await expect.poll(modelsOnOffer).toEqual([]);
  });

  test("is of no use once the token beside it is revoked: its sockets close, and none opens", async () => {
    const stolen = await newAgentToken(hub, owner);
    const signer = await createSigner(await generateKeyPair());
    const raw = await joinWith(stolen.secret, signer, "revoked");
    await raw.next("welcome");
    await call(hub, `DELETE /api/v1/agent-tokens/${stolen.id}`, { cookie: owner.cookie });
    expect(await raw.closed).toBe(CLOSE.revoked);
    await expect(dial(stolen.secret)).rejects.toThrow("401");
    expect(await modelsOnOffer()).toEqual([]);
  });
});

test("of one address no more sockets are greeted than may be strangers, and of another all the same", async () => {
  const link = await linkTrusting(["127.0.0.0/8"]);
  const knock = (address: string) =>
    new Promise<string>((resolve) => {
      const url = new URL(LINK_PATH, `ws://127.0.0.1:${link.port}`);
      const headers = { authorization: `Bearer ${randomToken(8)}`, "x-forwarded-for": address };
      const socket = new WebSocket(url, { headers });
      sockets.push(socket);
      socket.on("error", (error) => resolve(error.message));
      socket.once("message", () => resolve("greeted"));
    });
  const answers = await Promise.all(
    Array.from({ length: 2 * STRANGERS_PER_ADDRESS_MAX }, () => knock("203.0.113.1")),
  );
  expect(answers.filter((answer) => answer === "greeted")).toHaveLength(STRANGERS_PER_ADDRESS_MAX);
  expect(answers.filter((answer) => answer.includes("429"))).toHaveLength(STRANGERS_PER_ADDRESS_MAX);
  expect(await knock("203.0.113.2")).toBe("greeted");
  for (const socket of sockets.splice(0)) socket.terminate();
  await expect.poll(() => knock("203.0.113.1")).toBe("greeted");
  await link.end();
});

describe("slots that a node's attempts for a hub which leaves still take", () => {
  test("are taken here, until the node says that they are free", async () => {
    const consumer = await hub.signUp();
    const { key } = await newKey(hub, consumer, ["inference"]);
    const raw = await dial();
    const hello = await helloFor(raw, "moving");
    const announcement = announcementOf("moving", { model: "moving", slots: 1 });
    raw.send({ ...hello, announcement, elsewhere: [{ model: "moving", running: 1 }] });
    await raw.next("welcome");
    const asked = fetch(`${hub.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "moving", messages: [{ role: "user", content: "hi" }] }),
    });
    const queued = async () =>
      /^gfe_jobs_queued (\d+)/m.exec(await (await fetch(`${hub.url}/metrics`)).text())![1];
    await expect.poll(queued).toBe("1");
    raw.send({ type: "elsewhere", models: [] });
    const start = await raw.next("attempt.start");
    raw.socket.terminate();
    expect(start).toMatchObject({ model: "moving" });
    await (await asked).text();
    await expect.poll(modelsOnOffer).toEqual([]);
  });
});
