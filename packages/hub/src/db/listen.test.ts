/** A listener whose connection dies in silence, as in a network that swallows all. */
import { connect, createServer, type Server, type Socket } from "node:net";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createTestDatabase } from "../testing/database.ts";
import { listen } from "./listen.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let way: Server;
const sockets: Socket[] = [];
beforeAll(async () => {
  database = await createTestDatabase();
  const url = new URL(database.url);
  const directory = url.searchParams.get("host");
  way = createServer((near) => {
    const far = directory
      ? connect({ path: `${directory}/.s.PGSQL.${url.port || 5432}` })
      : connect(Number(url.port || 5432), url.hostname);
    for (const socket of [near, far]) socket.on("error", () => {});
    near.pipe(far).pipe(near);
    sockets.push(near, far);
  });
  await new Promise<void>((resolve) => way.listen(0, "127.0.0.1", resolve));
});
afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  way.close();
  await database.drop();
});

test("a connection that answers no more is given up, and its successor told that something may be missed", async () => {
  const url = new URL(database.url);
  url.searchParams.delete("host");
  url.host = `127.0.0.1:${(way.address() as { port: number }).port}`;
  const heard = new Set<string>();
  const gap = Promise.withResolvers<void>();
  const listener = listen({
    connection: { connectionString: url.href },
    channel: "gfe_test",
    onMessage: (payload) => heard.add(payload),
    onGap: gap.resolve,
    times: { pingMs: 100, answerMs: 50 },
  });
  const other = new pg.Client({ connectionString: database.url });
  await other.connect();
  const told = (payload: string) =>
    vi.waitFor(async () => {
      await other.query("SELECT pg_notify('gfe_test', $1)", [payload]);
      expect(heard).toContain(payload);
    });
  await told("one");
  for (const socket of sockets) socket.unpipe().pause();
  await gap.promise;
  await told("two");
  await other.end();
  await listener.close();
});
