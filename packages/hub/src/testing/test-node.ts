/** A node that says what a test tells it to, over a real socket. */
import {
  type AgentFrame,
  type Announcement,
  type AttemptStart,
  createSigner,
  DEFAULT_PRICE,
  deltaKind,
  encodeDelta,
  generateKeyPair,
  type HubFrame,
  LINK_PATH,
  type ModelOffer,
  nodeProof,
  PROTOCOL_VERSION,
  RECEIPT_PURPOSE,
  randomToken,
  type Signer,
} from "@gfe/protocol";
import WebSocket from "ws";

export interface TestNode {
  readonly nodeId: string;
  send(frame: AgentFrame | object): void;
  say(start: AttemptStart, text: string): void;
  done(start: AttemptStart, outputTokens: number): Promise<void>;
  /** Resolves with the first frame, past or coming, of this type. */
  frame<Type extends HubFrame["type"]>(type: Type): Promise<Extract<HubFrame, { type: Type }>>;
  leave(): Promise<void>;
}

export interface TestNodeOptions {
  name?: string;
  offer?: Partial<ModelOffer>;
  /** Sent with the upgrade. */
  headers?: Record<string, string>;
  /** What it does with an attempt; says one word and is done if not given. */
  onStart?(start: AttemptStart, node: TestNode): void;
}

/** Resolves once the hub has welcomed it. */
export async function joinNode(
  hubUrl: string,
  token: string,
  { name = "node", offer = {}, headers = {}, onStart = answer }: TestNodeOptions = {},
): Promise<TestNode> {
  const signer = await createSigner(await generateKeyPair());
  const url = new URL(LINK_PATH, hubUrl.replace(/^http/, "ws"));
  const socket = new WebSocket(url, { headers: { ...headers, authorization: `Bearer ${token}` } });
  const frames: HubFrame[] = [];
  const listeners = new Set<() => void>();
  let nodeId = "";
  const node: TestNode = {
    get nodeId() {
      return nodeId;
    },
    send: (frame) => socket.send(JSON.stringify(frame)),
    say: (start, text) =>
      socket.send(encodeDelta(deltaKind.text, start.channel, new TextEncoder().encode(text))),
    async done(start, outputTokens) {
      const receipt = await signedReceipt(signer, start.attempt, outputTokens);
      node.send({ type: "attempt.done", attempt: start.attempt, finish: ["stop"], receipt });
    },
    frame: (type) =>
      new Promise((resolve) => {
        const look = () => {
          const found = frames.find((frame) => frame.type === type);
          if (!found) return;
          listeners.delete(look);
          resolve(found as never);
        };
        listeners.add(look);
        look();
      }),
    leave: () =>
      new Promise((resolve) => {
        socket.once("close", () => resolve());
        socket.close(1000);
      }),
  };
  await new Promise<void>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("close", (code, reason) => reject(new Error(`closed with ${code} ${reason}`)));
    socket.on("message", (data, isBinary) => {
      if (isBinary) return;
      const frame = JSON.parse(String(data)) as HubFrame;
      frames.push(frame);
      if (frame.type === "challenge") void hello(frame, signer, announcementOf(name, offer)).then(node.send);
      if (frame.type === "welcome") {
        nodeId = frame.node_id;
        resolve();
      }
      if (frame.type === "attempt.start") onStart(frame, node);
      for (const look of listeners) look();
    });
  });
  return node;
}

function answer(start: AttemptStart, node: TestNode): void {
  node.say(start, "word");
  void node.done(start, 1);
}

async function hello(
  challenge: Extract<HubFrame, { type: "challenge" }>,
  signer: Signer,
  announcement: Announcement,
): Promise<AgentFrame> {
  const keys = { node_key: signer.publicKey, node_nonce: randomToken(32) };
  const proof = nodeProof({ hub_key: challenge.hub_key, nonce: challenge.nonce, ...keys });
  return {
    type: "hello",
    version: PROTOCOL_VERSION,
    agent_version: "test",
    ...keys,
    proof: await signer.sign(proof),
    announcement,
  };
}

/** What a node offers that says nothing special. */
export function announcementOf(name: string, offer: Partial<ModelOffer> = {}): Announcement {
  const model: ModelOffer = {
    model: "m",
    context_length: 8192,
    capabilities: ["chat", "completion"],
    slots: 4,
    price: DEFAULT_PRICE,
    engine: "scripted",
    ...offer,
  };
  return { name, gpus: [], slots: 4, models: [model] };
}

async function signedReceipt(signer: Signer, attempt: string, outputTokens: number) {
  const receipt = {
    purpose: RECEIPT_PURPOSE,
    attempt,
    node_key: signer.publicKey,
    digest: null,
    seq: 1,
    usage: {
      input_tokens: 1,
      cached_input_tokens: 0,
      output_tokens: outputTokens,
      reasoning_tokens: 0,
      estimated: false,
    },
    output_bytes: 0,
    logprob_commitment: null,
  } as const;
  return { receipt, signature: await signer.sign(receipt) };
}
