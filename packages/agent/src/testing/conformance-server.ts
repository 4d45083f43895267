/** The other side of host-conformance.ts: HTTP and WebSockets that behave and misbehave as the path says. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";

const PIECE = Buffer.alloc(64 * 1024, "x");
const FLOOD_BYTES = 256 * 1024 * 1024;
/** The sender has stood still for this long: nobody reads. */
const STILL_MS = 150;

export interface ConformanceServer {
  /** `http://127.0.0.1:PORT`; WebSockets under /ws. */
  url: string;
  close(): Promise<void>;
}

export async function startConformanceServer(): Promise<ConformanceServer> {
  /** By the name in `?id=`: what happened to a request, and what a held one waits for. */
  const events = new Map<string, PromiseWithResolvers<string>>();
  const event = (id: string) => {
    const known = events.get(id) ?? Promise.withResolvers<string>();
    events.set(id, known);
    return known;
  };
  const sockets = new WebSocketServer({ noServer: true, maxPayload: 64 * 1024 * 1024 });
  const open = new Set<Duplex>();
  const server = createServer((request, response) => void answer(request, response));
  server.on("connection", (socket) => {
    open.add(socket);
    socket.on("error", () => {}).on("close", () => open.delete(socket));
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://x");
    const id = url.searchParams.get("id") ?? "";
    response.on("close", () => {
      if (!response.writableEnded) event(`${id}:cut`).resolve("cut");
    });
    switch (url.pathname) {
      case "/echo": {
        const chunks: Buffer[] = [];
        for await (const chunk of request) chunks.push(chunk as Buffer);
        response.writeHead(200, { "X-Method": request.method, "set-cookie": ["a=1", "b=2"] });
        return void response.end(
          JSON.stringify({ headers: request.headers, body: Buffer.concat(chunks).toString("utf8") }),
        );
      }
      case "/status":
        return void response
          .writeHead(Number(url.searchParams.get("code")), { location: "/echo" })
          .end("said");
      case "/silent":
        return void event(`${id}:seen`).resolve("seen");
      case "/begin": // one piece, and nothing more
        response.writeHead(200).write("first\n");
        return;
      case "/steps": // a second piece when told
        response.writeHead(200).write("first\n");
        await event(`${id}:go`).promise;
        return void response.end("second\n");
      case "/flood":
        return flood(response, event(`${id}:still`));
      case "/cut":
        response.writeHead(200, url.searchParams.has("length") ? { "content-length": "1000" } : {});
        response.write("part");
        return void setTimeout(() => (request.socket as Socket).destroy(), 20);
      case "/port":
        return void response.end(`${request.socket.remotePort}\n`);
      case "/port-and-close":
        response.end(`${request.socket.remotePort}\n`);
        return void response.on("finish", () => setTimeout(() => (request.socket as Socket).destroy(), 20));
      case "/tail": // what matters, then a little more
        response.writeHead(200).write(`${request.socket.remotePort}\n`);
        return void setTimeout(() => response.end("tail"), 20);
      case "/go":
        event(`${id}:go`).resolve("go");
        return void response.end();
      case "/wait": // what became of another request
        return void response.end(await event(`${id}:${url.searchParams.get("for")}`).promise);
      default:
        return void response.writeHead(404).end();
    }
  }

  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const url = new URL(request.url ?? "/", "http://x");
    const id = url.searchParams.get("id") ?? "";
    const refused = url.searchParams.get("refuse");
    if (refused) return void socket.end(`HTTP/1.1 ${refused} No\r\nContent-Length: 2\r\n\r\nno`);
    if (url.pathname === "/ws/silent") return;
    sockets.handleUpgrade(request, socket, head, (peer) => {
      peer.on("error", () => {});
      peer.on("close", (code, reason) => event(`${id}:closed`).resolve(`${code} ${reason.toString()}`));
      serve(url, peer, request, socket, event(`${id}:go`).promise);
    });
  });

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function serve(
  url: URL,
  peer: WebSocket,
  request: IncomingMessage,
  socket: Duplex,
  go: Promise<string>,
): void {
  switch (url.pathname) {
    case "/ws/echo":
      peer.send("hello");
      return void peer.on("message", (data, isBinary) => peer.send(data as Buffer, { binary: isBinary }));
    case "/ws/headers":
      return peer.send(JSON.stringify(request.headers));
    case "/ws/close":
      return peer.close(Number(url.searchParams.get("code")), url.searchParams.get("reason") ?? "");
    case "/ws/drop":
      return void socket.destroy();
    case "/ws/large":
      return peer.send(Buffer.alloc(Number(url.searchParams.get("bytes"))));
    case "/ws/deaf":
      return deaf(peer, socket, go);
  }
}

/** Reads nothing until told, then says after each message how many bytes came. */
function deaf(peer: WebSocket, socket: Duplex, go: Promise<string>): void {
  peer.send("hello");
  socket.pause();
  let bytes = 0;
  peer.on("message", (data) => {
    bytes += (data as Buffer).byteLength;
    peer.send(String(bytes));
  });
  void go.then(() => socket.resume());
}

/** Writes as much as is taken, and tells how much that was when it has stood still for a while. */
function flood(response: ServerResponse, still: PromiseWithResolvers<string>): void {
  let written = 0;
  let timer: NodeJS.Timeout | undefined;
  const more = () => {
    clearTimeout(timer);
    while (written < FLOOD_BYTES && !response.destroyed) {
      written += PIECE.byteLength;
      if (!response.write(PIECE)) {
        timer = setTimeout(() => still.resolve(String(written)), STILL_MS);
        return void response.once("drain", more);
      }
    }
    still.resolve(String(written));
    response.end();
  };
  response.writeHead(200);
  more();
  response.on("close", () => clearTimeout(timer));
}
