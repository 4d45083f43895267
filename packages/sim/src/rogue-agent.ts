/** An agent that speaks the frames by hand: it does what a test tells it, also what no honest agent would. */
import type { Duplex } from "node:stream";
import {
  type AgentFrame,
  type Announcement,
  type AttemptStart,
  type Capability,
  createSigner,
  DEFAULT_PRICE,
  deltaKind,
  encodeDelta,
  generateKeyPair,
  type HubFrame,
  LINK_PATH,
  nodeProof,
  PROTOCOL_VERSION,
  type PriceWire,
  RECEIPT_PURPOSE,
  randomToken,
  type SignedReceipt,
  type Signer,
} from "@gfe/protocol";
import WebSocket from "ws";

export interface RogueOptions {
  hubUrl: string;
  token: string;
  name?: string;
  model?: string;
  price?: PriceWire;
  slots?: number;
  digest?: string;
  /** Beside chat, completion and embedding. */
  capabilities?: Capability[];
  /** The same node again. */
  signer?: Signer;
  /** Called for each attempt; answers honestly with one word if absent. */
  onStart?(start: AttemptStart, agent: RogueAgent): void;
  /** Called for every frame, before it is acted upon. */
  onFrame?(frame: HubFrame, agent: RogueAgent): void;
  announcement?: unknown;
  /** Opens another connection than the system's. */
  connect?(): Duplex;
}

export class RogueAgent {
  readonly starts: AttemptStart[] = [];
  readonly frames: HubFrame[] = [];
  readonly signer: Signer;
  nodeId = "";
  readonly #socket: WebSocket;
  readonly #digest: string | null;
  readonly closed: Promise<{ code: number; reason: string }>;
  #listeners = new Set<() => void>();

  private constructor(socket: WebSocket, signer: Signer, digest: string | null) {
    this.#socket = socket;
    this.signer = signer;
    this.#digest = digest;
    this.closed = new Promise((resolve) =>
      socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() })),
    );
  }

  /** Resolves once the hub has welcomed it; rejects where it does not. */
  static async join(options: RogueOptions): Promise<RogueAgent> {
    const signer = options.signer ?? (await createSigner(await generateKeyPair()));
    const url = new URL(LINK_PATH, options.hubUrl);
    url.protocol = "ws:";
    const socket = new WebSocket(url, {
      headers: { authorization: `Bearer ${options.token}` },
      ...(options.connect ? { createConnection: options.connect } : {}),
    });
    const agent = new RogueAgent(socket, signer, options.digest ?? null);
    await new Promise<void>((resolve, reject) => {
      socket.on("error", reject);
      void agent.closed.then(({ code, reason }) => reject(new Error(`closed with ${code} ${reason}`)));
      socket.on("message", (data, isBinary) => {
        if (isBinary) return;
        const frame = JSON.parse(String(data)) as HubFrame;
        agent.frames.push(frame);
        options.onFrame?.(frame, agent);
        for (const listener of agent.#listeners) listener();
        if (frame.type === "challenge") void agent.#hello(frame, options);
        else if (frame.type === "welcome") {
          agent.nodeId = frame.node_id;
          resolve();
        } else if (frame.type === "attempt.start") {
          agent.starts.push(frame);
          (options.onStart ?? honest)(frame, agent);
        }
      });
    });
    return agent;
  }

  async #hello(challenge: Extract<HubFrame, { type: "challenge" }>, options: RogueOptions): Promise<void> {
    const node_nonce = randomToken(32);
    const proof = nodeProof({
      hub_key: challenge.hub_key,
      nonce: challenge.nonce,
      node_key: this.signer.publicKey,
      node_nonce,
    });
    this.raw({
      type: "hello",
      version: PROTOCOL_VERSION,
      agent_version: "rogue",
      node_key: this.signer.publicKey,
      node_nonce,
      proof: await this.signer.sign(proof),
      announcement: options.announcement ?? announcementOf(options),
    });
  }

  send(frame: AgentFrame): void {
    this.raw(frame);
  }
  raw(frame: unknown): void {
    this.#socket.send(
      typeof frame === "string" || frame instanceof Uint8Array ? frame : JSON.stringify(frame),
    );
  }
  text(channel: number, text: string): void {
    this.raw(encodeDelta(deltaKind.text, channel, new TextEncoder().encode(text)));
  }
  /** Base64 of little-endian float32, one for each input. */
  vectors(channel: number, vectors: string[]): void {
    const payload = new TextEncoder().encode(JSON.stringify({ vectors }));
    this.raw(encodeDelta(deltaKind.embeddings, channel, payload));
  }
  async done(start: AttemptStart, outputTokens: number, inputTokens = 1): Promise<void> {
    this.send({
      type: "attempt.done",
      attempt: start.attempt,
      finish: ["stop"],
      receipt: await this.receipt(start.attempt, outputTokens, inputTokens),
    });
  }
  fail(start: AttemptStart, code: "engine_error" | "cancelled" | "busy" = "engine_error"): void {
    this.send({ type: "attempt.failed", attempt: start.attempt, code, message: "as the test says" });
  }
  async receipt(
    attempt: string,
    outputTokens: number,
    inputTokens = 1,
    digest = this.#digest,
  ): Promise<SignedReceipt> {
    const receipt = {
      purpose: RECEIPT_PURPOSE,
      attempt,
      node_key: this.signer.publicKey,
      digest,
      seq: 1,
      usage: {
        input_tokens: inputTokens,
        cached_input_tokens: 0,
        output_tokens: outputTokens,
        reasoning_tokens: 0,
        estimated: false,
      },
      output_bytes: 0,
      logprob_commitment: null,
    } as const;
    return { receipt, signature: await this.signer.sign(receipt) };
  }
  /** Resolves with the first frame, past or coming, that fits. */
  frame(fits: (frame: HubFrame) => boolean): Promise<HubFrame> {
    return new Promise((resolve) => {
      const look = () => {
        const found = this.frames.find(fits);
        if (!found) return;
        this.#listeners.delete(look);
        resolve(found);
      };
      this.#listeners.add(look);
      look();
    });
  }
  /** As a machine that loses its power. */
  die(): void {
    this.#socket.terminate();
  }
  async leave(): Promise<void> {
    this.#socket.close(1000);
    await this.closed;
  }
}

function honest(start: AttemptStart, agent: RogueAgent): void {
  agent.text(start.channel, "word");
  void agent.done(start, 1);
}

function announcementOf({
  name = "rogue",
  model = "m",
  price = DEFAULT_PRICE,
  slots = 100,
  digest,
  capabilities = [],
}: RogueOptions): Announcement {
  return {
    name,
    gpus: [],
    slots,
    models: [
      {
        model,
        context_length: 8192,
        ...(digest ? { digest } : {}),
        capabilities: ["chat", "completion", "embedding", ...capabilities],
        slots,
        price,
        engine: "scripted",
      },
    ],
  };
}
