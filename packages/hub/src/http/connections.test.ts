/** Who connects and is slow, or comes in thousands: on real sockets. */
import { EventEmitter } from "node:events";
import type { Server } from "node:http";
import { connect, type Socket } from "node:net";
import type { FastifyInstance } from "fastify";
import pino from "pino";
import { afterEach, describe, expect, test } from "vitest";
import { type Connections, LOOPBACK, limitConnections } from "./connection-limit.ts";
import { createServer, REQUEST_TIMES } from "./server.ts";

const apps: FastifyInstance[] = [];
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(apps.splice(0).map((app) => app.close()));
});

interface Serving {
  port: number;
  connections: Connections;
  accepted: Socket[];
}

async function serve({
  perAddress = 0,
  exempt = [] as readonly string[],
  quick = false,
} = {}): Promise<Serving> {
  const app = createServer({
    log: pino({ level: "silent" }),
    bodyLimitBytes: 1_000_000,
    trustedProxies: [],
    https: false,
    ...(quick ? { times: { headersMs: 150, requestMs: 300, checkMs: 50 } } : {}),
  });
  apps.push(app);
  const accepted: Socket[] = [];
  app.server.on("connection", (socket: Socket) => void accepted.push(socket));
  const connections = limitConnections(app.server, { perAddress, exempt });
  app.post("/echo", async ({ body }) => body);
  app.get("/slow", (_request, reply) => {
    reply.hijack();
    reply.raw.write("a");
    setTimeout(() => reply.raw.end("b"), 700);
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  return { port: (app.server.address() as { port: number }).port, connections, accepted };
}

interface Dialled {
  socket: Socket;
  /** All that came, when the connection has ended. */
  ended: Promise<string>;
}

function dial(port: number): Dialled {
  const socket = connect(port, "127.0.0.1");
  sockets.push(socket);
  let got = "";
  socket.on("data", (piece) => {
    got += piece;
  });
  socket.on("error", () => {});
  return { socket, ended: new Promise((resolve) => socket.once("close", () => resolve(got))) };
}
const REQUEST = "GET /none HTTP/1.1\r\nhost: x\r\n\r\n";
/** Whether a connection is served. */
async function isServed(port: number): Promise<boolean> {
  const { socket, ended } = dial(port);
  const answered = new Promise<boolean>((resolve) => socket.once("data", () => resolve(true)));
  socket.write(REQUEST);
  return Promise.race([answered, ended.then(() => false)]);
}

describe("a slow-loris is cut off", () => {
  test("that says nothing at all", async () => {
    const { port } = await serve({ quick: true });
    expect(await dial(port).ended).toMatch(/^$|408/);
  });

  test("that sends a header now and then", async () => {
    const { port } = await serve({ quick: true });
    const { socket, ended } = dial(port);
    socket.write("POST /echo HTTP/1.1\r\nhost: x\r\n");
    const drip = setInterval(() => socket.write("x-a: b\r\n"), 20);
    expect(await ended).toContain("408");
    clearInterval(drip);
  });

  test("that sends a byte of its body now and then", async () => {
    const { port } = await serve({ quick: true });
    const { socket, ended } = dial(port);
    socket.write(
      "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n",
    );
    const drip = setInterval(() => socket.write(" "), 20);
    expect(await ended).toContain("408");
    clearInterval(drip);
  });

  test("and an answer that takes longer than all of that is not", async () => {
    const { port } = await serve({ quick: true });
    const { socket, ended } = dial(port);
    socket.write("GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    expect(await ended).toMatch(/a.*b/s);
  });

  test("by a server as it is started, in times that leave an honest upload its minutes", async () => {
    await serve();
    const { server } = apps[0]!;
    const { headersMs, requestMs } = REQUEST_TIMES;
    expect([server.headersTimeout, server.requestTimeout, server.timeout]).toEqual([headersMs, requestMs, 0]);
    expect(headersMs).toBeLessThanOrEqual(15_000);
  });
});

describe("the connections of one address", () => {
  test("are cut at the limit, and who comes when they are gone is served", async () => {
    const { port, accepted } = await serve({ perAddress: 20 });
    for (let i = 0; i < 200; i++) dial(port);
    await expect.poll(() => accepted.length).toBe(200);
    expect(accepted.filter(({ destroyed }) => !destroyed)).toHaveLength(20);
    expect(await isServed(port)).toBe(false);
    for (const socket of sockets.splice(0)) socket.destroy();
    await expect.poll(() => isServed(port)).toBe(true);
  });

  test("10,000 of them leave the limit open and nothing behind, and no other address notices", () => {
    const server = new EventEmitter();
    limitConnections(server as Server, { perAddress: 2_048, exempt: LOOPBACK });
    const come = (remoteAddress: string) => {
      let destroyed = false;
      const socket = Object.assign(new EventEmitter(), {
        remoteAddress,
        destroy: () => {
          destroyed = true;
        },
      });
      server.emit("connection", socket);
      return { socket, isOpen: () => !destroyed };
    };
    const all = Array.from({ length: 10_000 }, () => come("203.0.113.1"));
    expect(all.filter(({ isOpen }) => isOpen())).toHaveLength(2_048);
    expect(come("203.0.113.2").isOpen()).toBe(true);
    for (const { socket } of all) socket.emit("close");
    expect(Array.from({ length: 2_049 }, () => come("203.0.113.1").isOpen()).filter(Boolean)).toHaveLength(
      2_048,
    );
  });

  test("are not counted where that is this machine or a proxy of ours", async () => {
    const { port } = await serve({ perAddress: 1, exempt: LOOPBACK });
    expect(await Promise.all([isServed(port), isServed(port), isServed(port)])).toEqual([true, true, true]);
  });

  test("are counted no longer once their node is proved, nor twice when they close after it", async () => {
    const { port, connections, accepted } = await serve({ perAddress: 1 });
    expect(await isServed(port)).toBe(true);
    expect(await isServed(port)).toBe(false);
    connections.release(accepted[0]!);
    expect(await isServed(port)).toBe(true);
    sockets[0]!.destroy();
    await expect.poll(() => accepted[0]!.destroyed).toBe(true);
    expect(await isServed(port)).toBe(false);
  });
});
