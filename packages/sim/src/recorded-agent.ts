/** An agent of an earlier version: its frames are fixtures, with only keys, nonces and ids filled in. */
import { readFileSync } from "node:fs";
import {
  CLOSE,
  createSigner,
  deltaKind,
  encodeDelta,
  generateKeyPair,
  LINK_PATH,
  nodeProof,
  randomToken,
} from "@gfe/protocol";
import WebSocket from "ws";

// biome-ignore lint/suspicious/noExplicitAny: frames are as they were recorded
type Frame = any;

interface Recording {
  /** Types of frames that it knew. */
  knows: string[];
  hello: Frame;
  heartbeat: Frame;
  "attempt.done": Frame;
}

export const recordingOf = (name: string): Recording =>
  JSON.parse(readFileSync(new URL(`./fixtures/${name}.json`, import.meta.url), "utf8")) as Recording;

export interface RecordedAgent {
  nodeId: string;
  /** All that the hub sent. */
  frames: Frame[];
  starts: Frame[];
  send(frame: object): void;
  readonly isOpen: boolean;
  /** How the hub closed it. */
  closed: Promise<{ code: number; reason: string }>;
  leave(): void;
}

const ANSWER = ["Hello ", "there"];

/**
 * Resolves with it once it has joined, or was closed. It answers every attempt with two words. `change` makes another hello of
 * the recorded one.
 */
export async function playAgent(
  hubUrl: string,
  token: string,
  recording: Recording,
  change: (hello: Frame) => Frame = (hello) => hello,
): Promise<RecordedAgent> {
  const signer = await createSigner(await generateKeyPair());
  const url = new URL(LINK_PATH, hubUrl.replace(/^http/, "ws"));
  const socket = new WebSocket(url, { headers: { authorization: `Bearer ${token}` } });
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    socket.once("close", (code, reason) => resolve({ code, reason: String(reason) })),
  );
  const agent: RecordedAgent = {
    ...{ nodeId: "", frames: [], starts: [], closed },
    send: (frame) => socket.send(JSON.stringify(frame)),
    get isOpen() {
      return socket.readyState === WebSocket.OPEN;
    },
    leave: () => socket.close(CLOSE.goingAway),
  };
  async function greet({ hub_key, nonce }: Frame): Promise<void> {
    const keys = { node_key: signer.publicKey, node_nonce: randomToken(32) };
    const proof = await signer.sign(nodeProof({ hub_key, nonce, ...keys }));
    agent.send(change({ ...recording.hello, ...keys, proof }));
  }
  async function answer({ attempt, channel }: Frame): Promise<void> {
    for (const text of ANSWER)
      socket.send(encodeDelta(deltaKind.text, channel, new TextEncoder().encode(text)));
    const done = recording["attempt.done"];
    const receipt = { ...done.receipt.receipt, attempt, node_key: signer.publicKey };
    agent.send({ ...done, attempt, receipt: { receipt, signature: await signer.sign(receipt) } });
  }
  const joined = new Promise<void>((resolve) =>
    socket.on("message", (data) => {
      const frame = JSON.parse(String(data)) as Frame;
      agent.frames.push(frame);
      if (frame.type === "challenge") void greet(frame);
      if (frame.type === "attempt.start") {
        agent.starts.push(frame);
        void answer(frame);
      }
      if (frame.type !== "welcome") return;
      agent.nodeId = frame.node_id;
      resolve();
    }),
  );
  await Promise.race([joined, closed]);
  return agent;
}
