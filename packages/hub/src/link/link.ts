/**
 * The agents' sockets: upgrade, handshake, admission, and the way from a job to its node.
 *
 * The token in the Authorization header says whose node it is; the signature over the hub's nonce says which node.
 * Only then is anything known of the node replaced: a stranger cannot take a node offline by naming it.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import {
  type AgentFrame,
  CLOSE,
  GfeError,
  HUB_GRANT_PURPOSE,
  LINK_LIMITS,
  LINK_PATH,
  nodeProof,
  PROTOCOL_VERSION,
  randomToken,
  type Signer,
  verifySignature,
} from "@gfe/protocol";
import type pg from "pg";
import { type WebSocket, WebSocketServer } from "ws";
import type { Dispatcher } from "../jobs/dispatcher.ts";
import type { NodeEntry, Registry } from "../market/registry.ts";
import type { PriceBook } from "../prices/price-book.ts";
import { addressBlock, createClientAddress } from "./address-block.ts";
import { admitNode, saveAnnouncement, touchNode } from "./node-store.ts";
import { Session, versionRefusal } from "./session.ts";
import { createStrangers } from "./strangers.ts";

/** Sockets of one agent token at once: one machine has one, a restart may overlap. */
export const SOCKETS_PER_TOKEN_MAX = 64;

/** Who an agent token speaks for. */
export interface AgentPrincipal {
  userId: string;
  tokenId: string;
}

export interface LinkOptions {
  server: Server;
  pool: pg.Pool;
  registry: Registry;
  signer: Signer;
  /** Lays what owners set over what their nodes announce. */
  prices: Pick<PriceBook, "load" | "priced">;
  /** Throws GfeError with status 401 for a token that is unknown or revoked. */
  authenticate(token: string): Promise<AgentPrincipal>;
  /** Addresses and networks whose X-Forwarded-For is believed. */
  trustedProxies: readonly string[];
  /** Calls back when a token is revoked; its sockets close at once. */
  onRevoked(listener: (tokenId: string) => void): void;
  /** The node of a connection is proved. */
  onJoined(socket: Duplex): void;
  nowMs: () => number;
  /** For the counters. */
  onRefused(code: string): void;
  log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
}

export interface Link extends Dispatcher {
  connected(): number;
  /**
   * Admits no more agents and asks those that are here to reconnect, each at a moment of its own within `withinMs`, to whichever
   * hub answers then. They go when what they run for this hub has ended.
   */
  leave(withinMs: number): void;
  /** Asks every agent to reconnect later and closes their sockets. */
  close(): Promise<void>;
}

/** Who an agent speaks for, and where from. */
type Caller = AgentPrincipal & { block: string | null };

interface Joined {
  session: Session;
  node: NodeEntry;
  nodeKey: string;
}

export function createLink(options: LinkOptions): Link {
  const { pool, registry, signer, prices, nowMs, log } = options;
  const addressOf = createClientAddress(options.trustedProxies);
  const joined = new Map<string, Joined>();
  /** Keys outlive their socket for a while: receipts of attempts just ended are still checked. */
  const keyOf = new Map<string, string>();
  const byToken = new Map<string, Set<Session>>();
  const meet = createStrangers();
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: LINK_LIMITS.messageBytes,
    perMessageDeflate: false,
  });
  let leaving = false;

  async function onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { pathname } = new URL(request.url ?? "/", "http://hub");
    if (pathname !== LINK_PATH) return refuseUpgrade(socket, 404, "Not Found");
    if (leaving) return refuseUpgrade(socket, 503, "Service Unavailable");
    const token = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? "")?.[1];
    if (token === undefined) return refuseUpgrade(socket, 401, "Unauthorized");
    const address = addressOf(request) ?? "";
    const block = addressBlock(address);
    // In the hub's own network one address may be everybody's: a proxy that nobody named.
    const known = meet(block === null ? null : address);
    if (!known) return refuseUpgrade(socket, 429, "Too Many Requests");
    socket.once("close", known);
    let principal: AgentPrincipal;
    try {
      principal = await options.authenticate(token);
    } catch (error) {
      // Only a token that is refused may be told so: agents give up on 401, and try again after 503.
      const refused = error instanceof GfeError && error.status === 401;
      return refused
        ? refuseUpgrade(socket, 401, "Unauthorized")
        : refuseUpgrade(socket, 503, "Service Unavailable");
    }
    if ((byToken.get(principal.tokenId)?.size ?? 0) >= SOCKETS_PER_TOKEN_MAX)
      return refuseUpgrade(socket, 429, "Too Many Requests");
    sockets.handleUpgrade(request, socket, head, (webSocket) =>
      greet(webSocket, socket, { ...principal, block }, () => options.authenticate(token), known),
    );
  }

  function greet(
    socket: WebSocket,
    raw: Duplex,
    principal: Caller,
    recheck: () => Promise<unknown>,
    known: () => void,
  ): void {
    const nonce = randomToken(32);
    let entry: Joined | null = null;
    const session: Session = new Session(
      socket,
      raw,
      {
        hello(frame) {
          // A token revoked while this socket was being opened was not yet known to be its.
          void recheck()
            .then(() => admit(session, principal, nonce, frame))
            .then((admitted) => {
              entry = admitted;
              if (!admitted) return;
              known();
              options.onJoined(raw);
            })
            .catch((error: unknown) => {
              log.warn({ error: String(error) }, "a node could not be admitted");
              session.close(CLOSE.goingAway, "try again");
            });
        },
        announced({ announcement }) {
          if (!entry || registry.get(entry.node.nodeId) !== entry.node) return;
          registry.announce(entry.node.nodeId, prices.priced(entry.node, announcement));
          void saveAnnouncement(pool, entry.node.nodeId, announcement).catch(() => {});
        },
        draining(draining, reason) {
          // A node that has moved is another hub's to speak of.
          if (entry && registry.get(entry.node.nodeId) === entry.node)
            registry.setDraining(entry.node.nodeId, draining, reason);
        },
        elsewhere: (models) => entry && registry.setElsewhere(entry.node, models),
        refused: options.onRefused,
        closed(code) {
          leave(principal.tokenId, session);
          if (!entry) return;
          const { nodeId } = entry.node;
          if (joined.get(nodeId) === entry) joined.delete(nodeId);
          registry.remove(entry.node);
          log.info({ node: nodeId, code }, "node disconnected");
          void touchNode(pool, nodeId).catch(() => {});
        },
      },
      nowMs,
    );
    const siblings = byToken.get(principal.tokenId) ?? new Set();
    byToken.set(principal.tokenId, siblings.add(session));
    session.send({ type: "challenge", version: PROTOCOL_VERSION, hub_key: signer.publicKey, nonce });
  }

  function leave(tokenId: string, session: Session): void {
    const sessions = byToken.get(tokenId);
    sessions?.delete(session);
    if (sessions?.size === 0) byToken.delete(tokenId);
  }

  async function admit(
    session: Session,
    principal: Caller,
    nonce: string,
    hello: Extract<AgentFrame, { type: "hello" }>,
  ): Promise<Joined | null> {
    if (hello.version !== PROTOCOL_VERSION) {
      session.close(CLOSE.versionRefused, versionRefusal(hello.version));
      return null;
    }
    const proof = nodeProof({
      hub_key: signer.publicKey,
      nonce,
      node_key: hello.node_key,
      node_nonce: hello.node_nonce,
    });
    if (!(await verifySignature(hello.node_key, proof, hello.proof))) {
      session.close(CLOSE.proofRefused, "the proof does not match the node key");
      return null;
    }
    const { announcement, agent_version: agentVersion } = hello;
    const admitted = await admitNode(pool, {
      ownerId: principal.userId,
      publicKey: hello.node_key,
      agentVersion,
      announcement,
    });
    if (admitted.type === "owned_by_other") {
      session.close(CLOSE.proofRefused, "this node key belongs to another account");
      return null;
    }
    await prices.load(principal.userId);
    return join(session, principal, admitted.nodeId, hello);
  }

  async function join(
    session: Session,
    principal: Caller,
    nodeId: string,
    hello: Extract<AgentFrame, { type: "hello" }>,
  ): Promise<Joined | null> {
    const grant = {
      purpose: HUB_GRANT_PURPOSE,
      hub_key: signer.publicKey,
      node_key: hello.node_key,
      node_nonce: hello.node_nonce,
      node_id: nodeId,
      owner: principal.userId,
      heartbeat_ms: LINK_LIMITS.heartbeatMs,
      granted_at_ms: Math.floor(nowMs()),
    } as const;
    const signature = await signer.sign(grant);
    if (session.closed) return null;
    if (leaving) {
      session.close(CLOSE.goingAway, "the hub is restarting");
      return null;
    }
    const node: NodeEntry = {
      nodeId,
      ownerId: principal.userId,
      agentVersion: hello.agent_version,
      ...(principal.block === null ? {} : { addressBlock: principal.block }),
      announcement: hello.announcement,
      running: 0,
      runningByModel: new Map(),
      draining: false,
      connectedAt: new Date(nowMs()),
    };
    const entry: Joined = { session, node, nodeKey: hello.node_key };
    const previous = joined.get(nodeId);
    joined.set(nodeId, entry);
    keyOf.set(nodeId, hello.node_key);
    session.join();
    node.announcement = prices.priced(node, hello.announcement);
    session.send({ type: "welcome", node_id: nodeId, grant, signature });
    registry.setElsewhere(node, hello.elsewhere ?? []);
    registry.add(node);
    // The newer connection has proved the key, so the older one is a leftover. It goes after its successor is listed.
    previous?.session.close(CLOSE.replaced, "the node connected again");
    log.info({ node: nodeId, models: hello.announcement.models.length }, "node connected");
    return entry;
  }

  options.server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy());
    void onUpgrade(request, socket, head).catch(() => socket.destroy());
  });
  options.onRevoked((tokenId) => {
    for (const session of [...(byToken.get(tokenId) ?? [])])
      session.close(CLOSE.revoked, "the agent token was revoked");
  });

  return {
    start: (nodeId, attempt, sink) => joined.get(nodeId)?.session.start(attempt, sink) ?? null,
    nodeKey: (nodeId) => keyOf.get(nodeId),
    connected: () => joined.size,
    leave(withinMs) {
      leaving = true;
      for (const { session } of joined.values()) session.send({ type: "hub.leaving", within_ms: withinMs });
    },
    async close() {
      leaving = true;
      for (const sessions of byToken.values()) {
        for (const session of [...sessions]) session.close(CLOSE.goingAway, "the hub is restarting");
      }
      sockets.close();
    },
  };
}

function refuseUpgrade(socket: Duplex, status: number, text: string): void {
  socket.end(`HTTP/1.1 ${status} ${text}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
