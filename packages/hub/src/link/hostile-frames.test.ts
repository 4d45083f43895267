/** Whatever an agent sends, its session stays whole: fuzzed frames, huge and countless deltas, on a socket without a network. */
import { EventEmitter } from "node:events";
import { readFileSync } from "node:fs";
import type { Duplex } from "node:stream";
import {
  CLOSE,
  DELTA_HEADER_BYTES,
  DELTAS_PER_MESSAGE_MAX,
  type DeltaKind,
  deltaKind,
  encodeDelta,
  LINK_LIMITS,
} from "@gfe/protocol";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { WebSocket } from "ws";
import type { AttemptSink } from "../jobs/dispatcher.ts";
import { Session } from "./session.ts";

const fixtures = JSON.parse(
  readFileSync(new URL("../../../protocol/src/fixtures/frames.json", import.meta.url), "utf8"),
) as Record<"agentFrameSchema" | "hubFrameSchema", { valid: Record<string, Record<string, unknown>> }>;
const validFrames = Object.values(fixtures.agentFrameSchema.valid);

class FakeSocket extends EventEmitter {
  readonly bufferedAmount = 0;
  readonly sent: { type: string; code?: string; fatal?: boolean }[] = [];
  closedWith: number | null = null;
  send(text: string) {
    this.sent.push(JSON.parse(text));
  }
  close(code: number) {
    this.closedWith = code;
  }
  terminate() {}
  says(data: string | Uint8Array) {
    this.emit("message", Buffer.from(data as string), typeof data !== "string");
  }
}

const open: Session[] = [];
afterEach(() => {
  for (const session of open.splice(0)) session.close(CLOSE.goingAway, "the test is over");
});

function connect({ joined = true } = {}) {
  const socket = new FakeSocket();
  const heard: string[] = [];
  const raw = { cork: () => {}, uncork: () => {} } as unknown as Duplex;
  const session = new Session(
    socket as unknown as WebSocket,
    raw,
    {
      hello: () => void heard.push("hello"),
      announced: () => void heard.push("announced"),
      draining: () => void heard.push("draining"),
      elsewhere: () => void heard.push("elsewhere"),
      refused: (code) => void heard.push(`refused ${code}`),
      closed: () => void heard.push("closed"),
    },
    () => 0,
  );
  open.push(session);
  if (joined) session.join();
  return { socket, session, heard, refused: () => heard.filter((one) => one.startsWith("refused")).length };
}

function attemptOn(session: Session, attempt: string) {
  const got = { deltas: 0, bytes: 0, ends: 0 };
  const sink: AttemptSink = {
    delta(_kind, payload) {
      got.deltas++;
      got.bytes += payload.byteLength;
    },
    done: () => void got.ends++,
    failed: () => void got.ends++,
  };
  session.start({ attempt, kind: "chat", model: "m", body: {}, deadline_ms: 1_000 }, sink);
  return got;
}

/** A valid frame, changed in one place or cut as text; or anything at all. */
const hostileText = fc.oneof(
  fc.tuple(fc.constantFrom(...validFrames), fc.nat(20), fc.jsonValue()).map(([frame, at, value]) => {
    const names = Object.keys(frame);
    return JSON.stringify({ ...frame, [names[at % names.length]!]: value });
  }),
  fc.tuple(fc.constantFrom(...validFrames), fc.nat(4_000), fc.string()).map(([frame, at, junk]) => {
    const text = JSON.stringify(frame);
    return text.slice(0, at % text.length) + junk + text.slice((at * 7) % text.length);
  }),
  fc
    .constantFrom(...Object.values(fixtures.hubFrameSchema.valid), { type: "__proto__" })
    .map((frame) => JSON.stringify(frame)),
  fc.json({ maxDepth: 5 }),
  fc.string(),
);
const hostileBytes = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc
    .tuple(fc.nat(6), fc.nat(40), fc.nat(60), fc.uint8Array({ maxLength: 40 }))
    .map(([kind, channel, length, rest]) =>
      Buffer.concat([Buffer.from([kind, 0, 0, 0, channel, 0, 0, 0, length]), rest]),
    ),
);
const hostile = fc.oneof(hostileText, hostileBytes);

test.each([true, false])(
  "no message throws, and the malformed are answered to a bound (joined: %s)",
  (joined) => {
    fc.assert(
      fc.property(fc.array(hostile, { maxLength: 60 }), (messages) => {
        const { socket, session, refused } = connect({ joined });
        for (const message of messages) socket.says(message);
        const counted = socket.sent.filter(({ type, code }) => type === "refused" && code !== "exists");
        expect(counted.length).toBeLessThanOrEqual(LINK_LIMITS.malformedFrames);
        expect(counted.filter(({ fatal }) => fatal).length).toBeLessThanOrEqual(1);
        if (socket.closedWith !== null) expect(socket.closedWith).toBe(CLOSE.malformed);
        // After the close nothing is heard, and nothing more is counted.
        const before = refused();
        if (session.closed) for (const message of messages) socket.says(message);
        if (session.closed) expect(refused()).toBe(before);
      }),
      { numRuns: 300 },
    );
  },
);

test("bytes that are no UTF-8 and frames 100,000 levels deep are malformed, no more", () => {
  const { socket } = connect();
  socket.emit("message", Buffer.from([0xff, 0xfe, 0xc0, 0x80]), false);
  socket.says(`${'{"type":"announce","announcement":'.repeat(100_000)}1${"}".repeat(100_000)}`);
  socket.says("[".repeat(1_000_000));
  expect(socket.sent.map(({ code }) => code)).toEqual(["malformed", "malformed", "malformed"]);
  expect(socket.closedWith).toBeNull();
});

test("what one agent sends touches no attempt of another", () => {
  fc.assert(
    fc.property(fc.array(hostile, { maxLength: 40 }), (messages) => {
      const [honest, rogue] = [connect(), connect()];
      const got = attemptOn(honest.session, "att_honest");
      for (const message of messages) rogue.socket.says(message);
      rogue.socket.says(encodeDelta(deltaKind.text, 1, Buffer.from("stolen")));
      rogue.socket.says(
        JSON.stringify({ type: "attempt.failed", attempt: "att_honest", code: "busy", message: "" }),
      );
      expect(got).toEqual({ deltas: 0, bytes: 0, ends: 0 });
      honest.socket.says(encodeDelta(deltaKind.text, 1, Buffer.from("mine")));
      expect(got).toEqual({ deltas: 1, bytes: 4, ends: 0 });
      for (const { session } of [honest, rogue]) session.close(CLOSE.goingAway, "");
    }),
    { numRuns: 100 },
  );
});

describe("deltas", () => {
  const many = (count: number, payload: Uint8Array, kind: DeltaKind = deltaKind.text) => {
    const one = encodeDelta(kind, 1, payload);
    const message = Buffer.alloc(one.byteLength * count);
    for (let i = 0; i < count; i++) message.set(one, i * one.byteLength);
    return message;
  };

  test("of 1 MB pass, and 100,000 of them in one attempt leave nothing behind in the session", () => {
    const { socket, session } = connect();
    const got = attemptOn(session, "att");
    socket.says(encodeDelta(deltaKind.text, 1, Buffer.alloc(1024 * 1024, "x")));
    expect(got.bytes).toBe(1024 * 1024);
    const message = many(1_000, Buffer.from("x"));
    for (let i = 0; i < 100; i++) socket.says(message);
    expect([got.deltas, socket.closedWith, socket.sent.length]).toEqual([100_001, null, 1]);
  });

  test("beyond the bound of one message are not handed on: a message of tiny ones is malformed", () => {
    const { socket, session } = connect();
    const got = attemptOn(session, "att");
    const most = Math.floor(LINK_LIMITS.messageBytes / DELTA_HEADER_BYTES);
    socket.says(many(most, new Uint8Array(0)));
    expect(got.deltas).toBe(DELTAS_PER_MESSAGE_MAX);
    expect(socket.sent.at(-1)).toMatchObject({ type: "refused", code: "malformed" });
    socket.says(many(DELTAS_PER_MESSAGE_MAX, new Uint8Array(0)));
    expect(got.deltas).toBe(2 * DELTAS_PER_MESSAGE_MAX);
  });

  test("on channels that were never opened end the session at the bound, in the middle of a message", () => {
    const { socket, session, refused } = connect();
    const got = attemptOn(session, "att");
    const stray = encodeDelta(deltaKind.text, 7, Buffer.from("x"));
    const last = encodeDelta(deltaKind.text, 1, Buffer.from("after the end"));
    socket.says(Buffer.concat([...Array.from({ length: 10_000 }, () => stray), last]));
    expect([socket.closedWith, refused(), got.deltas]).toEqual([
      CLOSE.malformed,
      LINK_LIMITS.malformedFrames,
      0,
    ]);
    expect(got.ends).toBe(1);
  });

  test("that come after their attempt has ended reach nobody", () => {
    const { socket, session } = connect();
    const got = attemptOn(session, "att");
    socket.says(JSON.stringify({ type: "attempt.failed", attempt: "att", code: "busy", message: "" }));
    for (let i = 0; i < 100; i++) socket.says(many(1_000, Buffer.from("late")));
    expect(got).toEqual({ deltas: 0, bytes: 0, ends: 1 });
    expect(socket.closedWith).toBeNull();
  });
});
