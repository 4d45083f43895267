/**
 * One connected agent, from its opened socket to its end.
 *
 *   greeting ──valid hello──► joined ──► closed
 *       └── no or bad hello in time ──► closed
 *
 * Nothing an agent sends can touch another agent's attempts: attempts and channels are looked up in this session only.
 * A frame that is malformed is refused and counted; at the bound the socket is closed.
 */

import type { Duplex } from "node:stream";
import {
  type AgentFrame,
  type AttemptFailure,
  type AttemptStart,
  agentFrameSchema,
  CLOSE,
  decodeDeltas,
  type Elsewhere,
  type HubFrame,
  LINK_LIMITS,
  PROTOCOL_VERSION,
  parseAgentFrame,
} from "@gfe/protocol";
import type { RawData, WebSocket } from "ws";
import type { AttemptHandle, AttemptSink } from "../jobs/dispatcher.ts";

/** Ended attempts that a session remembers, to answer a repeat with `exists`. */
const ENDED_REMEMBERED = 1024;
/** Bytes queued towards one agent; above it the agent is taken for gone. */
const SEND_BUFFER_MAX = 32 * 1024 * 1024;

/** Frames of one turn that wait for one another; more would keep the agent idle while the hub is at work. */
const GATHERED_MAX = 8;

export interface SessionEvents {
  hello(frame: Extract<AgentFrame, { type: "hello" }>): void;
  announced(frame: Extract<AgentFrame, { type: "announce" }>): void;
  draining(draining: boolean, reason: string | undefined): void;
  elsewhere(models: Elsewhere): void;
  /** A frame was refused; for the counters. */
  refused(code: string): void;
  closed(code: number): void;
}

interface LiveAttempt {
  id: string;
  channel: number;
  sink: AttemptSink;
}

export class Session {
  readonly #socket: WebSocket;
  readonly #raw: Duplex;
  #gathered = 0;
  readonly #events: SessionEvents;
  readonly #byId = new Map<string, LiveAttempt>();
  readonly #byChannel = new Map<number, LiveAttempt>();
  readonly #ended = new Set<string>();
  #nextChannel = 1;
  #malformed = 0;
  #greeted = false;
  #joined = false;
  #closed = false;
  #lastHeardMs: number;
  readonly #nowMs: () => number;
  #handshake: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;

  /** `raw` is what the socket writes to. */
  constructor(socket: WebSocket, raw: Duplex, events: SessionEvents, nowMs: () => number) {
    this.#socket = socket;
    this.#raw = raw;
    this.#events = events;
    this.#nowMs = nowMs;
    this.#lastHeardMs = nowMs();
    socket.on("message", (data, isBinary) => this.#onMessage(data, isBinary));
    socket.on("close", (code) => this.#onClose(code));
    socket.on("error", () => socket.terminate()); // `close` follows
    this.#handshake = setTimeout(() => this.close(CLOSE.silent, "no hello in time"), LINK_LIMITS.handshakeMs);
  }

  get closed(): boolean {
    return this.#closed;
  }

  send(frame: HubFrame): void {
    if (this.#closed) return;
    if (this.#socket.bufferedAmount > SEND_BUFFER_MAX) return void this.#socket.terminate();
    this.#gather();
    this.#socket.send(JSON.stringify(frame));
  }

  /** The frames of one turn of the event loop go out together: under load many attempts start in one. */
  #gather(): void {
    if (this.#gathered++ === 0) {
      this.#raw.cork();
      setImmediate(() => {
        this.#gathered = 0;
        this.#raw.uncork();
      });
    } else if (this.#gathered % GATHERED_MAX === 0) {
      this.#raw.uncork();
      this.#raw.cork();
    }
  }

  /** The node was admitted: heartbeats start, attempts may run. */
  join(): void {
    clearTimeout(this.#handshake);
    this.#joined = true;
    this.#heartbeat = setInterval(() => this.#beat(), LINK_LIMITS.heartbeatMs);
  }

  start(attempt: Omit<AttemptStart, "type" | "channel">, sink: AttemptSink): AttemptHandle | null {
    if (this.#closed || !this.#joined) return null;
    const live: LiveAttempt = { id: attempt.attempt, channel: this.#nextChannel++, sink };
    this.#byId.set(live.id, live);
    this.#byChannel.set(live.channel, live);
    this.send({ type: "attempt.start", channel: live.channel, ...attempt });
    return {
      cancel: (reason) => this.send({ type: "attempt.cancel", attempt: live.id, reason }),
      pause: () => this.send({ type: "attempt.pause", attempt: live.id }),
      resume: () => this.send({ type: "attempt.resume", attempt: live.id }),
      forget: () => this.#end(live),
    };
  }

  close(code: number, reason: string): void {
    if (this.#closed) return;
    this.#socket.close(code, reason.slice(0, 120));
    // An agent that does not answer the closing handshake is cut off: its attempts must fail over now.
    this.#onClose(code);
    setTimeout(() => this.#socket.terminate(), 500).unref();
  }

  #onMessage(data: RawData, isBinary: boolean): void {
    if (this.#closed) return;
    this.#lastHeardMs = this.#nowMs();
    const bytes = data as Buffer; // `nodebuffer` is the socket's binary type
    if (isBinary) this.#onDeltas(bytes);
    else this.#onControl(bytes);
  }

  #onDeltas(bytes: Buffer): void {
    const whole = decodeDeltas(bytes, (kind, channel, payload) => {
      if (this.#closed) return; // an earlier delta of this message went beyond the bound
      const live = this.#byChannel.get(channel);
      if (live) live.sink.delta(kind, payload);
      else if (channel >= this.#nextChannel) this.#refuse("unknown_channel", "this channel was never opened");
    });
    if (!whole && !this.#closed) this.#refuse("malformed", "a binary frame is malformed");
  }

  #onControl(bytes: Buffer): void {
    const raw = parse(bytes);
    const parsed = parseAgentFrame(raw);
    if (!parsed.success) {
      // What another version calls a hello may be none here: its agent is to know why.
      if (!this.#greeted && otherVersionOf(raw) !== null)
        return this.close(CLOSE.versionRefused, versionRefusal(otherVersionOf(raw)!));
      // A newer agent may say more: that is counted, and held against nobody.
      if (this.#joined && isUnknownType(raw)) return this.#events.refused("unknown_type");
      const issue = parsed.error.issues[0];
      return this.#refuse("malformed", `${issue?.path.join(".") || "frame"}: ${issue?.message ?? "invalid"}`);
    }
    const frame = parsed.data;
    if (!this.#joined && frame.type !== "hello") return this.#refuse("not_joined", "say hello first");
    switch (frame.type) {
      case "hello":
        // Once, also before the first was admitted: a socket is one node.
        if (this.#greeted) return this.#refuse("already_joined", "hello was said");
        this.#greeted = true;
        return this.#events.hello(frame);
      case "announce":
        return this.#events.announced(frame);
      case "drain":
        return this.#events.draining(frame.draining, frame.reason);
      case "elsewhere":
        return this.#events.elsewhere(frame.models);
      case "heartbeat":
        return;
      case "attempt.done": {
        const live = this.#claim(frame.attempt);
        if (live) live.sink.done(frame.finish, frame.receipt);
        return;
      }
      case "attempt.failed": {
        const live = this.#claim(frame.attempt);
        if (live) live.sink.failed(frame.code satisfies AttemptFailure, frame.message, frame.receipt);
      }
    }
  }

  /** The attempt that a final frame speaks of, which ends with it; undefined and refused where it is not ours. */
  #claim(attemptId: string): LiveAttempt | undefined {
    const live = this.#byId.get(attemptId);
    if (live) this.#end(live);
    else if (this.#ended.has(attemptId)) this.#refuse("exists", "this attempt has ended already");
    else this.#refuse("unknown_attempt", "this attempt is not yours");
    return live;
  }

  #end(live: LiveAttempt): void {
    if (!this.#byId.delete(live.id)) return;
    this.#byChannel.delete(live.channel);
    this.#ended.add(live.id);
    if (this.#ended.size > ENDED_REMEMBERED) this.#ended.delete(this.#ended.values().next().value!);
  }

  #refuse(code: string, message: string): void {
    this.#events.refused(code);
    if (!this.#joined) return this.close(CLOSE.malformed, message);
    // A repeat is harmless (a resend after a lost acknowledgement); the rest counts towards the bound.
    const fatal = code !== "exists" && ++this.#malformed >= LINK_LIMITS.malformedFrames;
    this.send({ type: "refused", code, message, fatal });
    if (fatal) this.close(CLOSE.malformed, "too many malformed frames");
  }

  #beat(): void {
    if (this.#nowMs() - this.#lastHeardMs > LINK_LIMITS.silenceMs) return this.close(CLOSE.silent, "silent");
    this.send({ type: "heartbeat", sent_at_ms: this.#nowMs() });
  }

  #onClose(code: number): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#handshake);
    clearInterval(this.#heartbeat);
    const running = [...this.#byId.values()];
    // The registry forgets the node before its attempts fail over: they must not be matched with it again.
    this.#events.closed(code);
    for (const live of running) {
      this.#end(live);
      live.sink.failed("node_lost", "the node's connection closed");
    }
  }
}

/** Within the 123 bytes that a close may say. */
export const versionRefusal = (version: number): string =>
  version < PROTOCOL_VERSION
    ? `this agent speaks version ${version} of the protocol, this hub ${PROTOCOL_VERSION}: update the agent`
    : `this agent speaks version ${version} of the protocol, this hub ${PROTOCOL_VERSION}: use an older agent`;

/** The version that a hello is of, where it is not this hub's. */
function otherVersionOf(raw: unknown): number | null {
  const hello = raw as { type?: unknown; version?: unknown } | null | undefined;
  if (hello?.type !== "hello" || !Number.isSafeInteger(hello.version)) return null;
  return hello.version === PROTOCOL_VERSION ? null : (hello.version as number);
}

const knownTypes: ReadonlySet<string> = new Set(
  agentFrameSchema.options.map(({ shape }) => shape.type.value),
);

function isUnknownType(raw: unknown): boolean {
  const type = (raw as { type?: unknown } | null | undefined)?.type;
  return typeof type === "string" && !knownTypes.has(type);
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}
