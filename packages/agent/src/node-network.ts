/**
 * HTTP and WebSockets on Node. `node:http` rather than `fetch`: fewer microseconds a request, real back-pressure, and
 * an abort that cuts the connection at once. Redirects are not followed: an engine may not send the agent elsewhere.
 */
import * as http from "node:http";
import * as https from "node:https";
import type { Duplex } from "node:stream";
import { LINK_LIMITS } from "@gfe/protocol";
import { WebSocket } from "ws";
import type { HttpRequest, HttpResponse, Socket, SocketEvents } from "./host.ts";
import { tunnelTo } from "./node-proxy.ts";

const IDLE_CONNECTIONS_MAX = 64;
/** How long an answer may go on after what mattered of it. */
const RELEASE_MS = 1_000;

/** An HTTP client with its own kept-alive connections. Rejects where no response came. */
export function createNodeHttp(): (request: HttpRequest) => Promise<HttpResponse> {
  const options = { keepAlive: true, noDelay: true, maxFreeSockets: IDLE_CONNECTIONS_MAX };
  const agents = { "http:": new http.Agent(options), "https:": new https.Agent(options) };

  const send = (request: HttpRequest, isRetry: boolean): Promise<HttpResponse> =>
    new Promise((resolve, reject) => {
      const url = new URL(request.url);
      if (url.protocol !== "http:" && url.protocol !== "https:")
        return reject(new Error(`${url.protocol} is not an address that an agent calls`));
      if (request.signal?.aborted) return reject(request.signal.reason);
      const body = request.body === undefined ? undefined : Buffer.from(request.body);
      const sent = (url.protocol === "http:" ? http : https).request(url, {
        agent: request.socketPath === undefined ? (tunnelTo(url) ?? agents[url.protocol]) : false,
        ...(request.socketPath === undefined ? {} : { socketPath: request.socketPath }),
        method: request.method ?? (body ? "POST" : "GET"),
        headers: {
          ...(body ? { "content-type": "application/json", "content-length": body.byteLength } : {}),
          ...request.headers,
        },
        ...(request.signal ? { signal: request.signal } : {}),
      });
      sent.once("error", (error: NodeJS.ErrnoException) => {
        // A kept connection that the server closed just now: nothing was read, so once more on a fresh one.
        if (error.code === "ECONNRESET" && sent.reusedSocket && !isRetry && !request.signal?.aborted)
          return resolve(send(request, true));
        reject(error);
      });
      sent.once("response", (response) => {
        sent.removeAllListeners("error");
        sent.on("error", () => {}); // told by the body
        resolve({
          status: response.statusCode ?? 0,
          header: (name) => {
            const value = response.headers[name.toLowerCase()];
            return Array.isArray(value) ? value[0] : value;
          },
          // The default iterator cuts the connection when its reader stops early.
          body: { [Symbol.asyncIterator]: () => response.iterator({ destroyOnReturn: false }) },
          cancel: () => response.destroy(),
          release: () => letEnd(response),
        });
      });
      sent.end(body);
    });
  return (request) => send(request, false);
}

/** Reads on to the end without keeping anything, for a bounded while. */
function letEnd(response: http.IncomingMessage): void {
  if (response.complete) return void response.resume();
  const cut = setTimeout(() => response.destroy(), RELEASE_MS);
  response.once("close", () => clearTimeout(cut));
  response.resume();
}

/** Dials a WebSocket with TCP_NODELAY and without compression; `connect` opens another connection than the system's. */
export function dialNodeSocket(
  url: string,
  options: { headers: Record<string, string>; timeoutMs: number; connect?: () => Duplex },
  events: SocketEvents,
): Socket {
  const agent = options.connect ? undefined : tunnelTo(new URL(url));
  const socket = new WebSocket(url, {
    ...(agent ? { agent } : {}),
    headers: options.headers,
    handshakeTimeout: options.timeoutMs,
    perMessageDeflate: false,
    maxPayload: LINK_LIMITS.messageBytes,
    followRedirects: false,
    ...(options.connect ? { createConnection: options.connect } : {}),
  });
  let httpStatus: number | undefined;
  let failure = "";
  let gather = () => {};
  socket.on("upgrade", (response) => {
    response.socket.setNoDelay(true);
    gather = createGatherer(response.socket);
  });
  socket.on("unexpected-response", (_request, response) => {
    httpStatus = response.statusCode;
    failure = `the upgrade was answered with ${httpStatus}`;
    socket.terminate();
  });
  socket.on("message", (data, isBinary) => {
    const bytes = data as Buffer;
    events.message(isBinary ? bytes : bytes.toString("utf8"));
  });
  socket.on("error", (error) => {
    failure ||= error.message;
  });
  socket.on("close", (code, reason) =>
    events.closed({
      code,
      reason: reason.toString("utf8") || failure,
      ...(httpStatus === undefined ? {} : { httpStatus }),
    }),
  );
  return {
    send(data, written) {
      if (socket.readyState !== WebSocket.OPEN) return written?.();
      gather();
      socket.send(data, written && (() => written()));
    },
    get bufferedBytes() {
      return socket.bufferedAmount;
    },
    close: (code, reason) => socket.close(code, reason.slice(0, 120)),
    terminate: () => socket.terminate(),
  };
}

/** What is written to the socket until the end of this turn of the event loop goes out in one piece. */
function createGatherer(socket: Duplex): () => void {
  let gathering = false;
  const end = () => {
    gathering = false;
    socket.uncork();
  };
  return () => {
    if (gathering) return;
    gathering = true;
    socket.cork();
    setImmediate(end);
  };
}
