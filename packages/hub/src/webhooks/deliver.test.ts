import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { createServer as createTcpServer } from "node:net";
import pg from "pg";
import { Webhook as Verifier } from "standardwebhooks";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { migrate } from "../db/migrate.ts";
import { createTestDatabase } from "../testing/database.ts";
import { createDeliverer, type Deliverer, RETRY_MS } from "./deliver.ts";
import { ANSWER_BYTES_MAX, send, signatureOf } from "./send.ts";
import { addWebhook, newWebhook } from "./webhooks.ts";

interface Received {
  headers: IncomingHttpHeaders;
  body: string;
}

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let pool: pg.Pool;
let receiver: Server;
let url: string;
let received: Received[];
/** What the receiver answers next; 200 when there is nothing. */
let answers: { status: number; location?: string; body?: string }[];
let deliverer: Deliverer;
const stopping: Deliverer[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
  pool = new pg.Pool({ connectionString: database.url, max: 4 });
  await migrate(pool);
  await pool.query(
    `INSERT INTO "user" ("id", "name", "email", "emailVerified", "updatedAt") VALUES ('u', 'u', 'u', true, now())`,
  );
  received = [];
  answers = [];
  receiver = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (piece: string) => {
      body += piece;
    });
    request.on("end", () => {
      received.push({ headers: request.headers, body });
      const { status = 200, location, body: said = "" } = answers.shift() ?? {};
      response.writeHead(status, location === undefined ? {} : { location }).end(said);
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(receiver.address() as { port: number }).port}/hook`;
  deliverer = begin();
});
afterEach(async () => {
  await Promise.all(stopping.splice(0).map((one) => one.stop()));
  receiver.closeAllConnections();
  await new Promise((resolve) => receiver.close(resolve));
  await pool.end();
  await database.drop();
});

function begin(allowPrivate = true): Deliverer {
  const log = { warn: () => {} };
  const made = createDeliverer({ pool, nowMs: Date.now, random: () => 0, log, allowPrivate });
  stopping.push(made);
  return made;
}

async function hook(events: Parameters<typeof newWebhook>[1] = ["job.completed"], to = url) {
  const webhook = newWebhook(to, events, true);
  await addWebhook(pool, "u", webhook);
  return webhook;
}
const enqueue = (event = "job.completed", id = "djob_1") =>
  pool.query("SELECT webhook_enqueue('u', $1, $2, 'completed')", [event, id]);
const waiting = async () =>
  (
    await pool.query<{ tries: number; due_ms: number }>(
      "SELECT tries, extract(epoch FROM due_at - now())::float * 1000 AS due_ms FROM webhook_deliveries",
    )
  ).rows;
async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  for (const deadline = Date.now() + 5_000; !(await condition()); ) {
    if (Date.now() > deadline) throw new Error("it never came to be");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
const dueNow = () => pool.query("UPDATE webhook_deliveries SET due_at = now()");

describe("a delivery", () => {
  test("is signed so that the receiver's own library believes it, and says ids and states only", async () => {
    const { secret } = await hook();
    await enqueue();
    deliverer.start();
    await until(() => received.length === 1);
    const [{ headers, body }] = received as [Received];
    const verified = new Verifier(secret).verify(body, headers as Record<string, string>);
    expect(verified).toEqual({
      type: "job.completed",
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      data: { id: "djob_1", state: "completed" },
    });
    expect(() => new Verifier(secret).verify(`${body} `, headers as Record<string, string>)).toThrow();
    await until(async () => (await waiting()).length === 0);
  });

  test("that is forged, changed, another's or replayed is not believed by the receiver's own library", async () => {
    const { secret } = await hook();
    const other = newWebhook(url, ["job.completed"], true);
    const nowS = Math.floor(Date.now() / 1000);
    const message = { id: "whd_1", url, secret, payload: '{"type":"job.completed"}' };
    const verify = (changes: Partial<typeof message>, signedAtS = nowS, shownAtS = signedAtS) =>
      new Verifier(secret).verify((changes.payload ?? message.payload).toString(), {
        "webhook-id": changes.id ?? message.id,
        "webhook-timestamp": String(shownAtS),
        "webhook-signature": signatureOf({ ...message, secret: changes.secret ?? secret }, signedAtS),
      });
    expect(verify({})).toEqual({ type: "job.completed" });
    expect(() => verify({ payload: '{"type":"job.failed"}' })).toThrow();
    expect(() => verify({ id: "whd_2" })).toThrow(); // receivers tell repeats by the id: it is signed too
    expect(() => verify({ secret: other.secret })).toThrow();
    expect(() => verify({}, nowS - 600)).toThrow(/too old/i);
    expect(() => verify({}, nowS - 600, nowS)).toThrow();
    expect(() => verify({}, nowS + 600)).toThrow(/too new/i);
  });

  test("goes to those only who asked for the event", async () => {
    await hook(["batch.completed"]);
    await enqueue("job.completed");
    expect(await waiting()).toEqual([]);
    await enqueue("batch.completed");
    expect(await waiting()).toHaveLength(1);
  });

  test.each([500, 404, 429])("answered %i is tried again later, with the same id", async (status) => {
    await hook();
    answers = [{ status }];
    await enqueue();
    deliverer.start();
    await until(async () => (await waiting())[0]?.tries === 1 && (await waiting())[0]!.due_ms < RETRY_MS[0]!);
    await until(() => received.length === 1);
    await dueNow();
    deliverer.nudge();
    await until(() => received.length === 2);
    expect(received[0]!.headers["webhook-id"]).toBe(received[1]!.headers["webhook-id"]);
    await until(async () => (await waiting()).length === 0);
  });

  test("waits longer after each failure, and is given up after the last", async () => {
    await hook();
    answers = Array.from({ length: 10 }, () => ({ status: 500 }));
    await enqueue();
    deliverer.start();
    for (const [n, waitMs] of RETRY_MS.entries()) {
      await until(async () => {
        const { due_ms } = (await waiting())[0]!;
        return received.length === n + 1 && due_ms > waitMs - 4_000 && due_ms <= waitMs;
      });
      await dueNow();
      deliverer.nudge();
    }
    await until(async () => (await waiting()).length === 0);
    expect(received).toHaveLength(RETRY_MS.length + 1);
  });

  test("that another process had taken when it died is made by the next", async () => {
    await hook();
    await enqueue();
    await pool.query("UPDATE webhook_deliveries SET tries = 1, due_at = now() + interval '30 seconds'");
    deliverer.start();
    await dueNow(); // its time is over
    deliverer.nudge();
    await until(() => received.length === 1);
  });

  test("is made by one of two hubs", async () => {
    await hook();
    const other = begin();
    for (let n = 0; n < 10; n++) await enqueue("job.completed", `djob_${n}`);
    deliverer.start();
    other.start();
    await until(async () => (await waiting()).length === 0);
    const ids = received.map(({ headers }) => headers["webhook-id"]);
    expect([ids.length, new Set(ids).size]).toEqual([10, 10]);
  });

  test("follows no redirect", async () => {
    await hook();
    answers = [{ status: 302, location: `${url}/elsewhere` }];
    await enqueue();
    deliverer.start();
    await until(async () => (await waiting())[0]?.tries === 1 && received.length === 1);
    await until(
      async () => (await pool.query("SELECT last_status FROM webhooks")).rows[0].last_status === 302,
    );
    expect(received).toHaveLength(1);
  });

  test("to a receiver that says it is gone is the last one", async () => {
    await hook();
    answers = [{ status: 410 }];
    await enqueue();
    deliverer.start();
    await until(async () => (await waiting()).length === 0);
    await enqueue();
    expect(await waiting()).toEqual([]);
  });

  test("to an address that is not public is never made, whatever was stored or resolved", async () => {
    const { port } = new URL(url);
    await hook(["job.completed"], url);
    await hook(["job.completed"], `https://127.0.0.1:${port}/`);
    await hook(["job.completed"], `https://localhost:${port}/`);
    await enqueue();
    const strict = begin(false);
    let connections = 0;
    receiver.on("connection", () => connections++);
    strict.start();
    await until(
      async () => (await pool.query("SELECT FROM webhooks WHERE last_error IS NOT NULL")).rowCount === 3,
    );
    expect(connections).toBe(0);
    const { rows } = await pool.query("SELECT last_error FROM webhooks WHERE url LIKE 'https://localhost%'");
    expect(rows).toEqual([{ last_error: "the name leads to an address that is not public" }]);
  });
});

describe("an answer", () => {
  const message = { id: "msg_1", secret: "whsec_AAAA", payload: "{}" };
  const options = { nowMs: Date.now, allowPrivate: true };

  test("is read so far and no farther", async () => {
    answers = [{ status: 200, body: "x".repeat(ANSWER_BYTES_MAX * 100) }];
    expect(await send({ ...message, url }, options)).toBe(200);
  });

  test("that does not come in time is a failure", async () => {
    const mute = createTcpServer((socket) => socket.on("error", () => {}).resume());
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
    const to = `http://127.0.0.1:${(mute.address() as { port: number }).port}/`;
    await expect(send({ ...message, url: to }, { ...options, timeoutMs: 50 })).rejects.toThrow("in time");
    await new Promise((resolve) => mute.close(resolve));
  });
});
