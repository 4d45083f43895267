/** Local HTTP on Node: for programs of the same user, never for the network. */
import { chmod, mkdir, rm, rmdir, stat } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { connect } from "node:net";
import {
  EndpointTaken,
  type LocalAnswer,
  type LocalLimits,
  type LocalRequest,
  type Serving,
} from "./host.ts";

const SOCKET_MODE = 0o600;
/** How long a living program has to take a connection. */
const PROBE_MS = 1_000;
/** Two that start at once take turns; a lock this old was left by one that was killed. */
const LOCK_STALE_MS = 5_000;
const LOCK_RETRY_MS = 20;
/** For the last words to those who still listen. */
const CLOSE_MS = 300;

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;
const isPipe = (endpoint: string): boolean => endpoint.startsWith("\\\\.\\pipe\\");

/** Host.serve on Node. */
export async function serveLocal(
  endpoint: string,
  handler: (request: LocalRequest) => Promise<LocalAnswer>,
  limits: LocalLimits,
): Promise<Serving> {
  const { requestMs } = limits;
  const times = {
    requestTimeout: requestMs,
    headersTimeout: requestMs,
    connectionsCheckingInterval: requestMs,
  };
  const server = createServer(times, (request, response) => {
    answer(request, response, handler, limits).catch(() => response.destroy());
  });
  server.maxConnections = limits.connections;
  const listen = () =>
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(endpoint, () => {
        server.removeListener("error", reject);
        resolve();
      });
    });
  if (isPipe(endpoint)) {
    await listen().catch((error: unknown) => {
      throw codeOf(error) === "EADDRINUSE" ? new EndpointTaken(endpoint) : error;
    });
  } else {
    await locked(endpoint, async () => {
      if (await isAlive(endpoint)) throw new EndpointTaken(endpoint);
      await rm(endpoint, { force: true });
      const umask = process.umask(0o177); // the socket is nobody else's from its first moment on
      try {
        await listen();
      } finally {
        process.umask(umask);
      }
      await chmod(endpoint, SOCKET_MODE);
    });
  }
  return {
    close: () =>
      new Promise((resolve) => {
        const cut = setTimeout(() => server.closeAllConnections(), CLOSE_MS);
        server.close(() => {
          clearTimeout(cut);
          resolve(); // the socket's file has gone, too
        });
        server.closeIdleConnections();
      }),
  };
}

/** Runs `claim` while no other program claims the same endpoint. */
async function locked(endpoint: string, claim: () => Promise<void>): Promise<void> {
  const lock = `${endpoint}.lock`;
  for (;;) {
    try {
      await mkdir(lock);
      break;
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
      const held = await stat(lock).catch(() => null);
      if (held && Date.now() - held.mtimeMs > LOCK_STALE_MS) await rmdir(lock).catch(() => {});
      else await new Promise((resolve) => setTimeout(resolve, LOCK_RETRY_MS));
    }
  }
  try {
    await claim();
  } finally {
    await rmdir(lock).catch(() => {});
  }
}

function isAlive(endpoint: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(endpoint);
    const end = (alive: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(alive);
    };
    // A program that is stopped or swamped takes no connection and is there all the same.
    const timer = setTimeout(end, PROBE_MS, true);
    socket.once("connect", () => end(true));
    socket.once("error", (error) => end(!["ENOENT", "ECONNREFUSED", "ENOTSOCK"].includes(codeOf(error)!)));
  });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  handler: (request: LocalRequest) => Promise<LocalAnswer>,
  { bodyBytes }: LocalLimits,
): Promise<void> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    size += piece.byteLength;
    if (size > bodyBytes) {
      response.writeHead(413, { "content-type": "application/json", connection: "close" });
      response.end(JSON.stringify({ message: `the body is larger than ${bodyBytes} bytes` }));
      return;
    }
    pieces.push(piece);
  }
  const { status, body } = await handler({
    method: request.method ?? "GET",
    path: request.url ?? "/",
    body: Buffer.concat(pieces).toString("utf8"),
  });
  if (typeof body === "string") {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(body);
    return;
  }
  response.writeHead(status, { "content-type": "application/jsonl" });
  response.flushHeaders();
  const iterator = body[Symbol.asyncIterator]();
  response.once("close", () => void iterator.return?.());
  for (let next = await iterator.next(); !next.done; next = await iterator.next())
    if (!response.write(`${next.value}\n`) && !response.destroyed)
      await new Promise<void>((resolve) => {
        response.once("drain", resolve);
        response.once("close", resolve);
      });
  response.end();
}
