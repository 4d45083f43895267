/**
 * Many idle nodes in one process: real keys, real handshakes and real heartbeats over a socket each, and nothing else of
 * an agent. GET / tells how many the hub has welcomed.
 */
import { createServer } from "node:http";
import {
  type AgentFrame,
  type Announcement,
  createSigner,
  DEFAULT_PRICE,
  generateKeyPair,
  type HubFrame,
  LINK_LIMITS,
  LINK_PATH,
  nodeProof,
  PROTOCOL_VERSION,
  randomToken,
} from "@gfe/protocol";
import WebSocket from "ws";

/** Handshakes at once. */
const JOINING_MAX = 16;
const MODELS = 100;

const { HUB_URL = "", AGENT_TOKENS = "", NODES = "1" } = process.env;
const tokens = AGENT_TOKENS.split(",");
const link = new URL(LINK_PATH, HUB_URL.replace(/^http/, "ws"));
let welcomed = 0;
let lost = 0;

async function join(index: number): Promise<void> {
  const signer = await createSigner(await generateKeyPair());
  const socket = new WebSocket(link, {
    headers: { authorization: `Bearer ${tokens[index % tokens.length]}` },
    perMessageDeflate: false,
  });
  const send = (frame: AgentFrame) => socket.send(JSON.stringify(frame));
  await new Promise<void>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("close", (code, reason) => {
      lost++;
      reject(new Error(`closed with ${code} ${reason}`));
    });
    socket.on("message", (data, isBinary) => {
      if (isBinary) return;
      const frame = JSON.parse(String(data)) as HubFrame;
      if (frame.type === "challenge") {
        const keys = { node_key: signer.publicKey, node_nonce: randomToken(32) };
        const proof = nodeProof({ hub_key: frame.hub_key, nonce: frame.nonce, ...keys });
        void signer.sign(proof).then((signature) =>
          send({
            ...{
              type: "hello",
              version: PROTOCOL_VERSION,
              agent_version: "bench",
              ...keys,
              proof: signature,
            },
            announcement: announcementOf(index),
          }),
        );
      }
      if (frame.type === "welcome") {
        welcomed++;
        setInterval(
          () => send({ type: "heartbeat", sent_at_ms: Date.now(), running: 0 }),
          LINK_LIMITS.heartbeatMs,
        );
        resolve();
      }
    });
  });
}

function announcementOf(index: number): Announcement {
  return {
    name: `lean-${index}`,
    gpus: [{ name: "bench", memory_bytes: 24 * 2 ** 30 }],
    slots: 4,
    models: [
      {
        model: `lean-${index % MODELS}`,
        digest: `sha256:${String(index % MODELS).padStart(64, "0")}`,
        ...{ context_length: 8192, capabilities: ["chat", "completion"], slots: 4 },
        ...{ price: DEFAULT_PRICE, engine: "scripted" },
      },
    ],
  };
}

createServer((_request, response) => response.end(JSON.stringify({ welcomed, lost }))).listen(
  Number(process.env.PORT),
  "127.0.0.1",
);
let next = 0;
await Promise.all(
  Array.from({ length: JOINING_MAX }, async () => {
    while (next < Number(NODES)) await join(next++);
  }),
);
