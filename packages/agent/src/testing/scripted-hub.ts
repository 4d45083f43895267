/** A hub for tests: speaks the protocol on a real socket, and does what the test says. */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import {
  type AgentFrame,
  type AttemptStart,
  agentFrameSchema,
  createSigner,
  type DeltaKind,
  decodeDeltas,
  generateKeyPair,
  HUB_GRANT_PURPOSE,
  type KeyPair,
  LINK_PATH,
  nodeProof,
  PROTOCOL_VERSION,
  randomToken,
  verifySignature,
} from "@gfe/protocol";
import { type WebSocket, WebSocketServer } from "ws";

type EndFrame = Extract<AgentFrame, { type: "attempt.done" | "attempt.failed" }>;

export interface HubAttempt {
  id: string;
  channel: number;
  /** Everything delivered, by kind, in order. */
  deltas: { kind: DeltaKind; bytes: Uint8Array }[];
  text(): string;
  ends: EndFrame[];
  end: Promise<EndFrame>;
  /** Resolves when this many deltas are there. */
  delivered(count: number): Promise<void>;
}

export interface HubConnection {
  socket: WebSocket;
  nodeKey: string;
  hello: Extract<AgentFrame, { type: "hello" }>;
  frames: AgentFrame[];
  binaryMessages: number;
  /** Frames that the protocol's own schema refuses. */
  malformed: unknown[];
  closed: Promise<number>;
  send(frame: object): void;
  start(frame: Partial<AttemptStart> & { attempt: string }): HubAttempt;
  /** The next frame of a type, or one that is there already. */
  frame<T extends AgentFrame["type"]>(
    type: T,
    accept?: (frame: Extract<AgentFrame, { type: T }>) => boolean,
  ): Promise<Extract<AgentFrame, { type: T }>>;
}

export interface ScriptedHubOptions {
  keyPair?: KeyPair;
  port?: number;
  /** Status to refuse the upgrade with. */
  refuse?: (request: IncomingMessage) => number | undefined;
  /** Breaks the welcome before it is sent. */
  forge?: (welcome: { signature: string; grant: Record<string, unknown> }) => object;
  token?: string;
}

export interface ScriptedHub {
  url: string;
  port: number;
  keyPair: KeyPair;
  connections: HubConnection[];
  /** Resolves with the n-th connection that joined, from 1. */
  joined(count?: number): Promise<HubConnection>;
  close(): Promise<void>;
}

export async function createScriptedHub(options: ScriptedHubOptions = {}): Promise<ScriptedHub> {
  const keyPair = options.keyPair ?? (await generateKeyPair());
  const signer = await createSigner(keyPair);
  const connections: HubConnection[] = [];
  const waiting = new Set<() => void>();
  const wake = () => {
    for (const check of [...waiting]) check();
  };
  const until = <T>(get: () => T | undefined): Promise<T> =>
    new Promise((resolve) => {
      const check = () => {
        const value = get();
        if (value === undefined) return;
        waiting.delete(check);
        resolve(value);
      };
      waiting.add(check);
      check();
    });

  const server = createServer((_request, response) => response.writeHead(404).end());
  const sockets = new WebSocketServer({ noServer: true });
  server.on("upgrade", (request, socket, head) => {
    const refused = options.refuse?.(request);
    const wrongToken =
      options.token !== undefined && request.headers.authorization !== `Bearer ${options.token}`;
    const status = refused ?? (wrongToken ? 401 : request.url === LINK_PATH ? undefined : 404);
    if (status !== undefined)
      return void socket.end(`HTTP/1.1 ${status} No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    sockets.handleUpgrade(request, socket, head, greet);
  });

  function greet(socket: WebSocket): void {
    const nonce = randomToken(32);
    const attempts = new Map<number, HubAttempt>();
    const closed = Promise.withResolvers<number>();
    const own: HubConnection = {
      socket,
      nodeKey: "",
      hello: undefined as never, // there before anyone sees the connection
      frames: [],
      binaryMessages: 0,
      malformed: [],
      closed: closed.promise,
      send: (frame) => socket.send(JSON.stringify(frame)),
      start: (frame) => startAttempt(own, attempts, frame, until),
      frame: (type, accept = () => true) =>
        until(() => own.frames.find((frame) => frame.type === type && accept(frame as never)) as never),
    };
    socket.on("error", () => socket.terminate());
    socket.on("close", (code) => {
      closed.resolve(code);
      wake();
    });
    socket.on("message", (data, isBinary) => {
      const bytes = data as Buffer;
      if (isBinary) {
        own.binaryMessages++;
        decodeDeltas(bytes, (kind, channel, payload) =>
          attempts.get(channel)?.deltas.push({ kind, bytes: payload.slice() }),
        );
        return wake();
      }
      const frame = agentFrameSchema.safeParse(JSON.parse(bytes.toString()));
      if (!frame.success) {
        own.malformed.push(frame.error.issues);
        return wake();
      }
      own.frames.push(frame.data);
      if (frame.data.type === "hello") void admit(own, nonce, frame.data);
      if (frame.data.type === "attempt.done" || frame.data.type === "attempt.failed") {
        const { attempt: id } = frame.data;
        for (const attempt of attempts.values()) if (attempt.id === id) attempt.ends.push(frame.data);
      }
      wake();
    });
    own.send({ type: "challenge", version: PROTOCOL_VERSION, hub_key: keyPair.publicKey, nonce });
  }

  async function admit(own: HubConnection, nonce: string, hello: HubConnection["hello"]): Promise<void> {
    const { node_key: nodeKey, node_nonce: nodeNonce } = hello;
    const proof = nodeProof({
      hub_key: keyPair.publicKey,
      nonce,
      node_key: nodeKey,
      node_nonce: nodeNonce,
    });
    if (!(await verifySignature(nodeKey, proof, hello.proof))) return own.socket.close(4406, "bad proof");
    own.hello = hello;
    own.nodeKey = nodeKey;
    const grant = {
      purpose: HUB_GRANT_PURPOSE,
      hub_key: keyPair.publicKey,
      node_key: nodeKey,
      node_nonce: nodeNonce,
      node_id: "node_test",
      owner: "user_test",
      heartbeat_ms: 1000,
      granted_at_ms: Date.now(),
    } as const;
    const welcome = { grant, signature: await signer.sign(grant) };
    own.send({ type: "welcome", node_id: grant.node_id, ...(options.forge?.(welcome) ?? welcome) });
    connections.push(own);
    wake();
  }

  await new Promise<void>((resolve) => server.listen(options.port ?? 0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    keyPair,
    connections,
    joined: (count = 1) => until(() => connections[count - 1]),
    async close() {
      for (const socket of sockets.clients) socket.terminate();
      sockets.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

let nextChannel = 1;

function startAttempt(
  own: HubConnection,
  attempts: Map<number, HubAttempt>,
  frame: Partial<AttemptStart> & { attempt: string },
  until: <T>(get: () => T | undefined) => Promise<T>,
): HubAttempt {
  const channel = frame.channel ?? nextChannel++;
  const attempt: HubAttempt = attempts.get(channel) ?? {
    id: frame.attempt,
    channel,
    deltas: [],
    text: () =>
      new TextDecoder().decode(
        Buffer.concat(attempt.deltas.filter(({ kind }) => kind === 1).map(({ bytes }) => bytes)),
      ),
    ends: [],
    end: undefined as never,
    delivered: (count) => until(() => (attempt.deltas.length >= count ? true : undefined)).then(() => {}),
  };
  attempt.end ??= until(() => attempt.ends[0]);
  attempts.set(channel, attempt);
  own.send({
    type: "attempt.start",
    channel,
    kind: "chat",
    model: "scripted",
    body: { messages: [{ role: "user", content: "Hello there" }], max_tokens: 100 },
    deadline_ms: 20_000,
    ...frame,
  });
  return attempt;
}
