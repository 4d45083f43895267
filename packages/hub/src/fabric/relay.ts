/**
 * Attempts on nodes of other hubs: the dispatcher that jobs/ uses, for whichever hub holds the node's socket.
 *
 *   the job's hub                                   the node's hub
 *   start ref ─────────────────────────────────────► takes the slot, starts it
 *             ◄──────────────────────────────── taken ─   or done or failed at once
 *             ◄──────────────────── delta, delta … ─
 *   cancel, pause, resume, forget ref ─────────────►
 *             ◄─────────────────── done or failed ──   once
 *
 * The bus may lose messages, so each of an attempt's answers has a number: a gap is the attempt's end as `node_lost`, and
 * jobs/ goes on with another node. A hub that is gone loses its attempts; the node's hub cancels those of a job's hub that is gone.
 *
 *   delta: u8 1 · u32 ref · u32 number · u8 kind · payload      (big endian)
 */
import {
  type AttemptFailure,
  attemptFailureSchema,
  type DeltaKind,
  deltaKind,
  finishReasonSchema,
  type SignedReceipt,
  signedReceiptSchema,
} from "@gfe/protocol";
import { z } from "zod";
import type { AttemptHandle, AttemptSink, Dispatcher } from "../jobs/dispatcher.ts";
import type { NodeEntry, Registry } from "../market/registry.ts";
import type { Peers } from "./peers.ts";
import type { Presence } from "./presence.ts";
import type { Turns } from "./turns/turns.ts";

type AttemptToStart = Parameters<Dispatcher["start"]>[1];

const DELTA = 1;
const DELTA_HEAD_BYTES = 10;
const ref = z.number().int().min(0).max(0xffffffff);
const startSchema = z.object({
  ref,
  node: z.string(),
  attempt: z.looseObject({ attempt: z.string(), model: z.string() }),
  /** The slot is kept for the job already: it was given to it in its turn. */
  reservation: z.number().int().min(0).optional(),
});
const refSchema = z.object({ ref });
const endSchema = z.object({
  ref,
  n: ref,
  failure: z.union([attemptFailureSchema, z.literal("node_lost")]).optional(),
  message: z.string().default(""),
  finish: z.array(finishReasonSchema).default([]),
  receipt: signedReceiptSchema.optional(),
});

export interface RelayOptions {
  peers: Peers;
  registry: Registry;
  /** To the nodes that are connected here. */
  local: Dispatcher;
  presence: Presence;
  turns: Pick<Turns, "reservation" | "claim">;
}

/** An attempt of a job here, on a node of another hub. */
interface Call {
  peer: string;
  sink: AttemptSink;
  /** The number of the next answer. */
  next: number;
  /** The node's hub knows of it, or never will: called once. */
  acknowledged(): void;
}

/** An attempt of another hub's job, on a node here. */
interface Service {
  peer: string;
  handle: AttemptHandle;
  release(): void;
}

export interface Relay extends Dispatcher {
  /** Resolves when no attempt of another hub runs on a node here. */
  idle(): Promise<void>;
}

export function createRelay({ peers, registry, local, presence, turns }: RelayOptions): Relay {
  const calls = new Map<number, Call>();
  const services = new Map<string, Service>();
  let lastRef = 0;
  let onIdle: (() => void)[] = [];

  /** One attempt less on a node here. */
  function served(key: string): void {
    services.get(key)?.release();
    services.delete(key);
    if (services.size > 0) return;
    for (const resolve of onIdle) resolve();
    onIdle = [];
  }

  const keyOf = (peer: string, of: number) => `${peer} ${of}`;

  function call(node: NodeEntry, peer: string, attempt: AttemptToStart, sink: AttemptSink): AttemptHandle {
    lastRef = (lastRef + 1) % 0xffffffff;
    const ref = lastRef;
    const reservation = turns.reservation(node, attempt.model);
    // One that was given in its turn was never counted as taken here.
    let isKnown = reservation !== undefined;
    const acknowledged = () => {
      if (!isKnown) registry.acknowledge(node);
      isKnown = true;
    };
    const call = { peer, sink, next: 0, acknowledged };
    calls.set(ref, call);
    peers.send(peer, { t: "start", ref, node: node.nodeId, attempt, reservation });
    return {
      cancel: (reason) => peers.send(peer, { t: "cancel", ref, reason }),
      pause: () => peers.send(peer, { t: "pause", ref }),
      resume: () => peers.send(peer, { t: "resume", ref }),
      forget() {
        if (end(ref, call)) peers.send(peer, { t: "forget", ref });
      },
    };
  }

  function end(ref: number, { acknowledged }: Call): boolean {
    acknowledged();
    return calls.delete(ref);
  }

  function lose(ref: number, call: Call, why: string): void {
    end(ref, call);
    peers.send(call.peer, { t: "forget", ref });
    call.sink.failed("node_lost", why);
  }

  /** The call that an answer belongs to, if it is the next one. */
  function expected(peer: string, ref: number, number: number): Call | null {
    const call = calls.get(ref);
    if (call?.peer !== peer) return null;
    if (number === call.next++) return call;
    lose(ref, call, "what the node said was lost between two hubs");
    return null;
  }

  function serve(
    peer: string,
    ref: number,
    nodeId: string,
    attempt: AttemptToStart,
    reservation: number | undefined,
  ): void {
    let number = 0;
    const key = keyOf(peer, ref);
    const close = (answer: {
      failure?: AttemptFailure | "node_lost";
      message?: string;
      finish?: string[];
      receipt?: SignedReceipt | undefined;
    }) => {
      peers.send(peer, { t: "end", ref, n: number++, ...answer });
      served(key);
    };
    const node = registry.get(nodeId);
    if (!node || node.hub !== undefined)
      return close({ failure: "node_lost", message: "the node is not connected here" });
    const offer = registry.offers(attempt.model).find((one) => one.node === node);
    const kept = reservation === undefined ? null : turns.claim(peer, reservation, nodeId);
    const release = kept ?? (offer && registry.takeSlot(offer));
    presence.tellLoad(peer, node);
    if (!release) return close({ failure: "busy", message: "every slot is taken" });
    peers.send(peer, { t: "taken", ref });
    const handle = local.start(nodeId, attempt, {
      delta: (kind, payload) => peers.sendBytes(peer, deltaOf(ref, number++, kind, payload)),
      done: (finish, receipt) => close({ finish, receipt }),
      failed: (failure, message, receipt) => close({ failure, message, receipt }),
    });
    if (!handle) {
      release();
      return close({ failure: "node_lost", message: "the node is not connected any more" });
    }
    services.set(key, { peer, handle, release });
  }

  function leave(key: string, { handle }: Service): void {
    handle.forget();
    served(key);
  }

  peers.on("start", (peer, message) => {
    const told = startSchema.safeParse(message).data;
    if (!told) return;
    const { ref, node, attempt, reservation } = told;
    serve(peer, ref, node, attempt as unknown as AttemptToStart, reservation);
  });
  for (const [type, act] of [
    ["cancel", ({ handle }: Service) => handle.cancel("the job's hub cancelled it")],
    ["pause", ({ handle }: Service) => handle.pause()],
    ["resume", ({ handle }: Service) => handle.resume()],
  ] as const)
    peers.on(type, (peer, message) => {
      const told = refSchema.safeParse(message).data;
      const service = told && services.get(keyOf(peer, told.ref));
      if (service) act(service);
    });
  peers.on("forget", (peer, message) => {
    const told = refSchema.safeParse(message).data;
    const service = told && services.get(keyOf(peer, told.ref));
    if (!service) return;
    service.handle.cancel("the job's hub waits no longer");
    leave(keyOf(peer, told.ref), service);
  });
  peers.on("taken", (peer, message) => {
    const told = refSchema.safeParse(message).data;
    const call = told && calls.get(told.ref);
    if (call?.peer === peer) call.acknowledged();
  });
  peers.on("end", (peer, message) => {
    const told = endSchema.safeParse(message).data;
    const call = told && expected(peer, told.ref, told.n);
    if (!call) return;
    end(told.ref, call);
    if (told.failure === undefined && told.receipt) call.sink.done(told.finish, told.receipt);
    else call.sink.failed(told.failure ?? "engine_error", told.message, told.receipt);
  });
  peers.onBytes((peer, bytes) => {
    if (bytes[0] !== DELTA || bytes.byteLength < DELTA_HEAD_BYTES) return;
    const view = new DataView(bytes.buffer, bytes.byteOffset, DELTA_HEAD_BYTES);
    const kind = bytes[9]!;
    const call = expected(peer, view.getUint32(1), view.getUint32(5));
    if (kind >= deltaKind.text && kind <= deltaKind.embeddings)
      call?.sink.delta(kind as DeltaKind, bytes.subarray(DELTA_HEAD_BYTES));
  });
  peers.onGone((peer) => {
    for (const [ref, call] of [...calls])
      if (call.peer === peer) lose(ref, call, "the node's hub is out of reach");
    for (const [key, service] of [...services]) {
      if (service.peer !== peer) continue;
      service.handle.cancel("the job's hub is out of reach");
      leave(key, service);
    }
  });

  return {
    start(nodeId, attempt, sink) {
      const node = registry.get(nodeId);
      return node?.hub === undefined
        ? local.start(nodeId, attempt, sink)
        : call(node, node.hub, attempt, sink);
    },
    idle: () =>
      new Promise((resolve) => {
        if (services.size === 0) resolve();
        else onIdle.push(resolve);
      }),
    nodeKey: (nodeId) => local.nodeKey(nodeId) ?? presence.nodeKey(nodeId),
  };
}

function deltaOf(ref: number, number: number, kind: DeltaKind, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(DELTA_HEAD_BYTES + payload.byteLength);
  const view = new DataView(bytes.buffer);
  bytes[0] = DELTA;
  view.setUint32(1, ref);
  view.setUint32(5, number);
  bytes[9] = kind;
  bytes.set(payload, DELTA_HEAD_BYTES);
  return bytes;
}
