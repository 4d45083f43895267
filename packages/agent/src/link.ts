/**
 * The agent's connection to its hub.
 *
 *   dialling ──open──► greeted? ──challenge──► proving ──welcome, verified──► joined
 *      ▲                   └──────────────┬───────┘                             │
 *      │                      close, silence, time-out                          │
 *   waiting ◄──may help to try again──────┴─────────────────────────────────────┤
 *                                                                               └──► ended (stopped, or a fault)
 *
 * A hub that leaves (`hub.leaving`) is departed from: its connection stays while its attempts end, and the link dials for a
 * successor at once, which goes to another hub behind the same address. Only the successor is redialled from then on.
 *
 * Waiting takes longer each time, with jitter, so that a restarted hub is not met by all its nodes in one moment. A
 * fault that trying again can't mend (revoked, another hub key) ends the link with what to do about it.
 */
import {
  type AgentFrame,
  type Announcement,
  CLOSE,
  type Elsewhere,
  type HubFrame,
  type HubGrant,
  hubFrameSchema,
  LINK_LIMITS,
  type Signer,
} from "@gfe/protocol";
import { parseJson } from "./body.ts";
import { DeltaWriter } from "./delta-writer.ts";
import { AgentError, type AgentFault } from "./errors.ts";
import type { Host, Socket, SocketClose } from "./host.ts";
import type { HubAddress } from "./hub-address.ts";
import { RECONNECT_LIMITS } from "./limits.ts";
import { answerChallenge, checkWelcome, type Handshake } from "./link-handshake.ts";
import type { Outlet } from "./runner.ts";

export interface LinkOptions {
  host: Pick<Host, "dial" | "after" | "soon" | "nowMs" | "random">;
  address: HubAddress;
  token: string;
  signer: Signer;
  /** The hub's key where this node has joined before. */
  pinnedKey: string | undefined;
  announcement(): Announcement;
  running(): number;
  /** What runs for other connections than this. */
  elsewhere(outlet: Outlet): Elsewhere;
  /** Whether every end of the connection's attempts has been sent. */
  idleFor(outlet: Outlet): boolean;
  events: LinkEvents;
}

export interface LinkEvents {
  /** First time with a hub: keep its key. */
  pin(hubKey: string): Promise<void>;
  joined(grant: HubGrant, outlet: Outlet): void;
  frame(frame: HubFrame, outlet: Outlet): void;
  /** A joined connection has gone; what ran on it is lost. `departed`: the node was leaving it for another. */
  lost(reason: string, outlet: Outlet, departed: boolean): void;
  waiting(delayMs: number, reason: string): void;
  ended(fault: AgentError): void;
}

export interface LinkCounters {
  connections: number;
  malformedFrames: number;
  unknownFrames: number;
}

export interface Link {
  readonly counters: Readonly<LinkCounters>;
  readonly joined: boolean;
  start(): void;
  /** Sends a frame on the present connection; false where there is none. */
  send(frame: AgentFrame): boolean;
  /** An attempt's end was sent. */
  attemptEnded(outlet: Outlet): void;
  /** Closes for good. */
  stop(reason: string): void;
}

/** Frames that may wait while a welcome is being checked, which takes a moment. */
const HELD_MAX = 1024;

type Stage = "greeted" | "proving" | "checking" | "joined" | "closed";

interface Connection extends Outlet {
  socket: Socket;
  stage: Stage;
  handshake: Handshake | null;
  heardMs: number;
  joinedMs: number;
  /** Frames that came while the welcome was being checked. */
  held: string[];
  heldLength: number;
  callOffs: Set<() => void>;
  /** Its hello told of attempts that run for other connections. */
  toldElsewhere: boolean;
  /** Its successor has joined so long ago that no start is on its way any more. */
  lingered: boolean;
  callOffDeadline: () => void;
  /** Resolves when the socket has gone, and what was sent with it. */
  gone: Promise<void>;
}

const finalClose: Partial<Record<number, { code: AgentFault; message: string }>> = {
  [CLOSE.unauthenticated]: {
    code: "unauthenticated",
    message:
      "The hub does not know this agent token. Make a new one in the dashboard, or run `gfe up` to sign in again.",
  },
  [CLOSE.revoked]: {
    code: "revoked",
    message:
      "This agent token was revoked. Make a new one in the dashboard, or run `gfe up` to sign in again.",
  },
  [CLOSE.proofRefused]: {
    code: "proof_refused",
    message:
      "The hub refused this node's key: it belongs to another account, or the proof was wrong. Use that account's token, or another configuration directory for a new node.",
  },
  [CLOSE.versionRefused]: {
    code: "version_refused",
    message: "The hub speaks another version of the protocol: update the older of the two",
  },
  [CLOSE.replaced]: {
    code: "replaced",
    message:
      "Another agent with the same node key has connected. Only one may run: stop the other, or give it its own configuration directory.",
  },
};

export function createLink(options: LinkOptions): Link {
  const { host, address, signer, events } = options;
  const counters: LinkCounters = { connections: 0, malformedFrames: 0, unknownFrames: 0 };
  let pinnedKey = options.pinnedKey;
  let connection: Connection | null = null;
  /** To hubs that leave. */
  const departing = new Set<Connection>();
  let failures = 0;
  let unauthenticated = 0;
  let everJoined = false;
  let ended = false;
  let callOffWaiting = () => {};

  function dial(): void {
    if (ended) return;
    counters.connections++;
    let own: Connection | null = null;
    const gone = Promise.withResolvers<void>();
    const socket = host.dial(
      address.linkUrl,
      {
        headers: { authorization: `Bearer ${options.token}` },
        timeoutMs: RECONNECT_LIMITS.dialMs,
      },
      {
        message: (data) => own && onMessage(own, data),
        closed(close) {
          gone.resolve();
          if (own) onClosed(own, close);
        },
      },
    );
    const deltas = new DeltaWriter(socket, host.soon);
    const made: Connection = {
      socket,
      deltas,
      stage: "greeted",
      handshake: null,
      heardMs: host.nowMs(),
      joinedMs: 0,
      held: [],
      heldLength: 0,
      callOffs: new Set(),
      ...{ toldElsewhere: false, lingered: false, gone: gone.promise },
      callOffDeadline: host.after(RECONNECT_LIMITS.dialMs + LINK_LIMITS.handshakeMs, () =>
        drop(made, "the hub did not finish the handshake in time"),
      ),
      send(frame) {
        if (made.stage === "closed") return;
        socket.send(JSON.stringify(frame));
      },
    };
    own = made;
    connection = made;
  }

  function onMessage(own: Connection, data: string | Uint8Array): void {
    if (own.stage === "closed") return;
    own.heardMs = host.nowMs();
    if (typeof data !== "string") return void counters.unknownFrames++;
    if (own.stage === "checking") {
      own.heldLength += data.length;
      if (own.held.push(data) > HELD_MAX || own.heldLength > LINK_LIMITS.messageBytes)
        drop(own, "the hub said too much before its welcome was checked");
      return;
    }
    const raw = parseJson(data);
    // That it came is all there is to it. On the native host the schema of frames costs memory while a node idles.
    if (own.stage === "joined" && (raw as { type?: unknown } | null)?.type === "heartbeat") return;
    const parsed = hubFrameSchema.safeParse(raw);
    if (!parsed.success) {
      if (isUnknownType(raw)) counters.unknownFrames++;
      else counters.malformedFrames++;
      return;
    }
    onFrame(own, parsed.data);
  }

  function onFrame(own: Connection, frame: HubFrame): void {
    if (own.stage === "joined") {
      if (frame.type === "challenge" || frame.type === "welcome") return void counters.malformedFrames++;
      if (frame.type === "hub.leaving") depart(own, frame.within_ms);
      else events.frame(frame, own);
      return;
    }
    if (own.stage === "greeted" && frame.type === "challenge") {
      own.stage = "proving";
      const elsewhere = options.elsewhere(own);
      own.toldElsewhere = elsewhere.length > 0;
      const given = {
        origin: address.origin,
        pinnedKey,
        signer,
        announcement: options.announcement(),
        elsewhere,
      };
      answerChallenge(frame, given).then(
        ({ handshake, hello }) => {
          own.handshake = handshake;
          own.send(hello);
        },
        (error: unknown) => end(error),
      );
    } else if (own.stage === "proving" && frame.type === "welcome" && own.handshake) {
      own.stage = "checking";
      checkWelcome(frame, own.handshake, signer.publicKey, address.origin)
        .then((grant) => join(own, grant))
        .catch((error: unknown) => end(error));
    } else counters.malformedFrames++;
  }

  async function join(own: Connection, grant: HubGrant): Promise<void> {
    if (pinnedKey === undefined) await events.pin(grant.hub_key);
    if (own.stage !== "checking") return; // closed in the meantime
    pinnedKey = grant.hub_key;
    own.stage = "joined";
    own.joinedMs = host.nowMs();
    own.callOffDeadline();
    everJoined = true;
    unauthenticated = 0;
    const { heartbeatMsMin, heartbeatMsMax } = RECONNECT_LIMITS;
    beat(own, Math.min(heartbeatMsMax, Math.max(heartbeatMsMin, grant.heartbeat_ms)));
    events.joined(grant, own);
    // What its hello said of other connections may have changed since.
    if (departing.size > 0 || own.toldElsewhere) succeed(own);
    const { held } = own;
    own.held = [];
    for (const data of held) onMessage(own, data);
  }

  function beat(own: Connection, everyMs: number): void {
    if (own.stage !== "joined") return;
    if (host.nowMs() - own.heardMs > LINK_LIMITS.silenceMs) return drop(own, "the hub fell silent");
    own.send({ type: "heartbeat", sent_at_ms: host.nowMs(), running: options.running() });
    const callOff = host.after(everyMs, () => {
      own.callOffs.delete(callOff);
      beat(own, everyMs);
    });
    own.callOffs.add(callOff);
  }

  function depart(own: Connection, withinMs: number): void {
    if (connection !== own || ended) return;
    departing.add(own);
    connection = null;
    callOffWaiting = host.after(Math.min(withinMs, RECONNECT_LIMITS.moveMs) * host.random(), dial);
  }

  /** The successor has joined: the others send nothing more, and end when they are idle. */
  function succeed(successor: Connection): void {
    successor.send({ type: "elsewhere", models: options.elsewhere(successor) });
    for (const left of departing) {
      left.send({ type: "drain", draining: true });
      left.callOffs.add(host.after(RECONNECT_LIMITS.lingerMs, () => closeIdle(left)));
    }
  }

  function closeIdle(left: Connection): void {
    left.lingered = true;
    if (left.stage !== "joined" || !options.idleFor(left)) return;
    close(left, "the node has moved to another hub");
  }

  function close(own: Connection, reason: string): void {
    own.socket.close(CLOSE.goingAway, reason);
    host.after(RECONNECT_LIMITS.closeMs, () => own.socket.terminate());
    onClosed(own, { code: CLOSE.goingAway, reason });
  }

  /** Ends a connection that is of no use any more, without waiting for the other side. */
  function drop(own: Connection, reason: string): void {
    onClosed(own, { code: 1006, reason });
    own.socket.terminate();
  }

  function onClosed(own: Connection, close: SocketClose): void {
    if (own.stage === "closed") return;
    const wasJoined = own.stage === "joined";
    own.stage = "closed";
    own.callOffDeadline();
    for (const callOff of own.callOffs) callOff();
    own.deltas.close();
    if (connection === own) connection = null;
    const reason = close.reason || `closed with ${close.code}`;
    if (ended) return;
    const departed = departing.delete(own);
    if (wasJoined) events.lost(reason, own, departed);
    if (departed) return; // its successor is on its way
    const fault = faultOf(close);
    if (fault) return end(fault);
    if (wasJoined && host.nowMs() - own.joinedMs >= RECONNECT_LIMITS.stableMs) failures = 0;
    const delayMs = backOffMs(failures++, host.random());
    events.waiting(delayMs, reason);
    callOffWaiting = host.after(delayMs, dial);
  }

  function faultOf({ code, httpStatus, reason }: SocketClose): AgentError | null {
    if (httpStatus === 401 || httpStatus === 403) {
      // A hub whose database is away may answer so too; a node that it knew gives it some time.
      if (everJoined && ++unauthenticated < RECONNECT_LIMITS.unauthenticatedTries) return null;
      const { code: fault, message } = finalClose[CLOSE.unauthenticated]!;
      return new AgentError(fault, message);
    }
    const final = finalClose[code];
    if (!final) return null;
    const said = code === CLOSE.versionRefused && reason ? `: ${reason}` : "";
    return new AgentError(final.code, final.message + said);
  }

  function end(error: unknown): void {
    if (ended) return;
    ended = true;
    callOffWaiting();
    const own = connection;
    const open = own ? [own, ...departing] : [...departing];
    for (const one of open) close(one, "the agent ends");
    const fault =
      error instanceof AgentError ? error : new AgentError("stopped", "the link broke", { cause: error });
    // The process may end with this event: the last receipts must have left before.
    void Promise.all(open.map(({ gone }) => gone)).then(() => events.ended(fault));
  }

  return {
    counters,
    get joined() {
      return connection?.stage === "joined";
    },
    start: dial,
    send(frame) {
      if (connection?.stage !== "joined") return false;
      connection.send(frame);
      return true;
    },
    attemptEnded(outlet) {
      if (outlet === connection) return;
      if (connection?.stage === "joined")
        connection.send({ type: "elsewhere", models: options.elsewhere(connection) });
      for (const left of departing) if (left === outlet && left.lingered) closeIdle(left);
    },
    stop: (reason) => end(new AgentError("stopped", reason)),
  };
}

/** Half of a delay that doubles, and a random part of the other half. */
export function backOffMs(failures: number, random: number): number {
  const { firstMs, longestMs } = RECONNECT_LIMITS;
  const fullMs = Math.min(longestMs, firstMs * 2 ** Math.min(failures, 20));
  return Math.round(fullMs / 2 + (fullMs / 2) * random);
}

const knownTypes: ReadonlySet<string> = new Set(hubFrameSchema.options.map(({ shape }) => shape.type.value));

/** A frame that a newer hub may send, as against one that is broken. */
function isUnknownType(raw: unknown): boolean {
  const type = (raw as { type?: unknown } | null | undefined)?.type;
  return typeof type === "string" && !knownTypes.has(type);
}
