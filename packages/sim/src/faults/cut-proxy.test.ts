/** The bad network itself: what passes it comes whole and in order, and what it withholds comes later. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { until } from "../world.ts";
import { type CutProxy, startCutProxy } from "./cut-proxy.ts";

let echo: Server;
let proxy: CutProxy;
let far: Socket[];
beforeEach(async () => {
  far = [];
  echo = createServer((socket) => {
    far.push(socket);
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
  proxy = await startCutProxy({ port: (echo.address() as { port: number }).port });
});
afterEach(async () => {
  await proxy.close();
  for (const socket of far) socket.destroy();
  await new Promise((resolve) => echo.close(resolve));
});

function dial() {
  const socket = connect(proxy.port, "127.0.0.1");
  const seen = { text: "", ended: false, closed: false };
  socket.setEncoding("latin1").on("data", (text: string) => {
    seen.text += text;
  });
  socket.on("error", () => {}).on("end", () => Object.assign(seen, { ended: true }));
  socket.on("close", () => Object.assign(seen, { closed: true }));
  return { socket, seen };
}

it("passes all, in order, and an end as an end", async () => {
  const { socket, seen } = dial();
  const sent = Array.from({ length: 50_000 }, (_, at) => `${at} `).join("");
  socket.end(sent);
  await until(() => seen.ended, "it ended");
  expect(seen.text).toBe(sent);
  expect(proxy.bytes()).toBe(2 * sent.length);
});

it("a black hole keeps connections and their bytes, and their ends, until it passes again", async () => {
  const { socket, seen } = dial();
  socket.write("one");
  await until(() => seen.text === "one", "it passes");
  proxy.blackHole();
  socket.end(" two");
  const late = dial();
  late.socket.write("three");
  await until(() => late.socket.readyState === "open", "it is taken");
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect([seen, late.seen.text]).toEqual([{ text: "one", ended: false, closed: false }, ""]);
  proxy.pass();
  await until(() => seen.ended && late.seen.text === "three", "all came");
  expect(seen.text).toBe("one two");
});

it("throttles each connection to its rate", async () => {
  proxy.throttle(100_000);
  const { socket, seen } = dial();
  const began = performance.now();
  socket.write("x".repeat(30_000));
  await until(() => seen.text.length === 30_000, "all came");
  expect(performance.now() - began).toBeGreaterThan(290);
});

it("a cut breaks what there is and refuses what comes, until it passes again", async () => {
  const { socket, seen } = dial();
  socket.write("one");
  await until(() => seen.text === "one", "it passes");
  proxy.cut();
  await until(() => seen.closed, "it broke");
  const refused = dial();
  await until(() => refused.seen.closed, "it is refused");
  proxy.pass();
  const later = dial();
  later.socket.write("two");
  await until(() => later.seen.text === "two", "it passes again");
});

it("a half-open connection is gone for one side only", async () => {
  const { socket, seen } = dial();
  socket.write("one");
  await until(() => seen.text === "one", "it passes");
  proxy.halfOpen();
  await until(() => far[0]!.destroyed, "the far side is gone");
  expect(seen.closed).toBe(false);
});
