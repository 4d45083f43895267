import { delay, type Socket, type SocketClose } from "../../host.ts";
import { became, type ConformanceCase, check, type Ground, MIB, newId, same, textOf } from "./case.ts";

interface Dialled {
  socket: Socket;
  /** The next message, in order. */
  next(): Promise<string | Uint8Array>;
  closed: Promise<SocketClose>;
  closes(): number;
}

function dial(
  { host, url }: Ground,
  path: string,
  headers: Record<string, string> = {},
  timeoutMs = 5_000,
): Dialled {
  const messages: (string | Uint8Array)[] = [];
  const waiting: ((message: string | Uint8Array) => void)[] = [];
  const closed = Promise.withResolvers<SocketClose>();
  let closes = 0;
  const socket = host.dial(
    url.replace("http:", "ws:") + path,
    { headers, timeoutMs },
    {
      message(data) {
        const first = waiting.shift();
        if (first) first(data);
        else messages.push(data);
      },
      closed(close) {
        closes++;
        closed.resolve(close);
      },
    },
  );
  return {
    socket,
    next() {
      const first = messages.shift();
      return first === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(first);
    },
    closed: closed.promise,
    closes: () => closes,
  };
}

/** Dials and waits for the first echo: the socket is open then. */
async function openEcho(ground: Ground, id = newId()): Promise<Dialled> {
  const dialled = dial(ground, `/ws/echo?id=${id}`);
  same(await dialled.next(), "hello", "the first message");
  return dialled;
}

export const socketCases: readonly ConformanceCase[] = [
  {
    name: "socket: text and bytes go both ways, whole and in order",
    async run(ground) {
      const { socket, next } = await openEcho(ground);
      const bytes = Uint8Array.from({ length: 3 * MIB }, (_, i) => i % 251);
      socket.send("Grüße 🌍");
      socket.send(bytes);
      socket.send(new Uint8Array(0));
      same(await next(), "Grüße 🌍", "text");
      const echo = await next();
      check(echo instanceof Uint8Array && echo.length === bytes.length, "bytes come back as bytes");
      check(
        echo.every((byte, i) => byte === i % 251),
        "and are the same",
      );
      const empty = await next();
      check(empty instanceof Uint8Array && empty.length === 0, "no bytes at all are a message too");
      for (let i = 0; i < 500; i++) socket.send(String(i));
      for (let i = 0; i < 500; i++) same(await next(), String(i), "message");
      socket.terminate();
    },
  },
  {
    name: "socket: the headers given go with the upgrade",
    async run(ground) {
      const { socket, next } = dial(ground, "/ws/headers", { authorization: "Bearer secret" });
      const headers = JSON.parse(String(await next())) as Record<string, string>;
      same(headers.authorization, "Bearer secret", "authorization");
      same(headers["sec-websocket-extensions"], undefined, "no compression is asked for");
      socket.terminate();
    },
  },
  {
    name: "socket: the other side's close code and reason are told, once",
    async run(ground) {
      for (const code of [1001, 4401, 4409]) {
        const { closed, closes } = dial(ground, `/ws/close?code=${code}&reason=because`);
        const close = await closed;
        same(close.code, code, "code");
        same(close.reason, "because", "reason");
        same(close.httpStatus, undefined, "status");
        await delay(ground.host, 30);
        same(closes(), 1, "times");
      }
    },
  },
  {
    name: "socket: close goes behind what was sent, and the other side gets code and reason",
    async run(ground) {
      const id = newId();
      const { socket, next, closed, closes } = await openEcho(ground, id);
      const echoes: (string | Uint8Array)[] = [];
      for (let i = 0; i < 20; i++) socket.send(String(i));
      socket.close(4409, "enough of it");
      for (let i = 0; i < 20; i++) echoes.push(await next());
      same(echoes.join(), Array.from({ length: 20 }, (_, i) => i).join(), "what was sent before");
      same(await became(ground, id, "closed"), "4409 enough of it", "the server's view");
      await closed;
      same(closes(), 1, "times");
    },
  },
  {
    name: "socket: an upgrade that is refused is told with its status",
    async run(ground) {
      for (const status of [401, 503]) {
        const close = await dial(ground, `/ws/echo?refuse=${status}`).closed;
        same(close.httpStatus, status, "status");
        same(close.code, 1006, "code");
      }
    },
  },
  {
    name: "socket: where nothing listens it is closed once, without a status",
    async run({ host }) {
      const ground = { host, url: "http://127.0.0.1:1", directory: "" };
      const { closed, closes } = dial(ground, "/ws/echo");
      const close = await closed;
      same(close.code, 1006, "code");
      same(close.httpStatus, undefined, "status");
      check(close.reason !== "", "a reason");
      await delay(host, 30);
      same(closes(), 1, "times");
    },
  },
  {
    name: "socket: an upgrade that nobody answers ends at the time-out",
    async run(ground) {
      const startedMs = ground.host.nowMs();
      same((await dial(ground, "/ws/silent", {}, 100).closed).code, 1006, "code");
      check(ground.host.nowMs() - startedMs < 3_000, "it took too long");
    },
  },
  {
    name: "socket: terminate ends it at once, before and after it is open",
    async run(ground) {
      const early = dial(ground, "/ws/silent", {}, 60_000);
      early.socket.terminate();
      same((await early.closed).code, 1006, "code");
      const id = newId();
      const open = await openEcho(ground, id);
      open.socket.terminate();
      same((await open.closed).code, 1006, "code");
      check((await became(ground, id, "closed")).startsWith("1006"), "the server's view");
      same(early.closes() + open.closes(), 2, "times");
    },
  },
  {
    name: "socket: close before it is open ends it",
    async run(ground) {
      const { socket, closed, closes } = dial(ground, "/ws/silent", {}, 60_000);
      socket.close(1001, "never mind");
      same((await closed).code, 1006, "code");
      same(closes(), 1, "times");
    },
  },
  {
    name: "socket: a connection that drops is 1006",
    async run(ground) {
      same((await dial(ground, "/ws/drop").closed).code, 1006, "code");
    },
  },
  {
    name: "socket: what is sent after the end is dropped, and told as written",
    async run(ground) {
      const { socket, closed } = dial(ground, "/ws/close?code=1001");
      await closed;
      await new Promise<void>((resolve) => socket.send("too late", resolve));
      same(socket.bufferedBytes, 0, "buffered");
      socket.close(1000, "");
      socket.terminate();
    },
  },
  {
    name: "socket: a message of 16 MiB comes, a larger one ends the socket",
    async run(ground) {
      const most = dial(ground, `/ws/large?bytes=${16 * MIB}`);
      const message = await most.next();
      check(message instanceof Uint8Array && message.length === 16 * MIB, "16 MiB");
      most.socket.terminate();
      const close = await dial(ground, `/ws/large?bytes=${16 * MIB + 1}`).closed;
      check(close.code !== 1000, "an orderly close");
    },
  },
  {
    name: "socket: bytes that the other side does not take are counted, and told when written",
    async run(ground) {
      const id = newId();
      const { socket, next } = dial(ground, `/ws/deaf?id=${id}`);
      same(await next(), "hello", "open");
      const piece = new Uint8Array(MIB);
      let written = 0;
      for (let i = 0; i < 32; i++) socket.send(piece, () => written++);
      await delay(ground.host, 100);
      check(socket.bufferedBytes > 4 * MIB, `only ${socket.bufferedBytes} bytes wait`);
      check(written < 32, "all were written to nobody");
      await textOf(ground, `/go?id=${id}`);
      for (let i = 1; i <= 32; i++) same(await next(), String(i * MIB), "the server's count");
      same(written, 32, "written");
      same(socket.bufferedBytes, 0, "buffered at the end");
      socket.terminate();
    },
  },
];
