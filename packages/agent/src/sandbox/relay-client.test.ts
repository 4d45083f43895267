import { describe, expect, it } from "vitest";
import type { Child } from "../host.ts";
import { RELAY_LIMITS, relayedHttp } from "./relay-client.ts";

/** A child that says these lines, each when it is asked for the next, and is told what it was told. */
function rogue(lines: Iterable<string>): { child: Child; killed: Promise<void>; told: string[] } {
  const killed = Promise.withResolvers<void>();
  const told: string[] = [];
  const encoder = new TextEncoder();
  const child: Child = {
    pid: 1,
    stdout: (async function* () {
      for (const line of lines) {
        await new Promise(setImmediate);
        yield encoder.encode(`${line}\n`);
      }
      await killed.promise;
    })(),
    stderr: (async function* () {})(),
    write: async (bytes) => void told.push(new TextDecoder().decode(bytes).trim()),
    closeInput() {},
    kill: () => killed.resolve(),
    ended: killed.promise.then(() => ({ exitCode: null, signal: "SIGKILL" })),
  };
  return { child, killed: killed.promise, told };
}

const HEAD = JSON.stringify({ id: 1, status: 200, headers: { "content-type": "text/plain" } });
const data = (text: string) => JSON.stringify({ id: 1, data: btoa(text) });
const END = JSON.stringify({ id: 1, end: true });
const ask = (child: Child) => relayedHttp(child)({ url: "http://127.0.0.1:8080/x?y=1", body: "{}" });
async function read(body: AsyncIterable<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of body) text += new TextDecoder().decode(chunk);
  return text;
}

describe("a relay", () => {
  it("passes a question on and its answer back", async () => {
    const { child, told } = rogue([HEAD, data("one "), data("two"), END]);
    const response = await ask(child);
    expect([response.status, response.header("Content-Type")]).toEqual([200, "text/plain"]);
    expect(await read(response.body)).toBe("one two");
    expect(JSON.parse(told[0]!)).toEqual({
      id: 1,
      ask: { method: "POST", path: "/x?y=1", headers: {}, body: "{}" },
    });
  });

  it("is asked to hold while nobody reads, and ended where it does not", async () => {
    const piece = data("x".repeat(512 * 1024));
    function* endless() {
      yield HEAD;
      for (;;) yield piece;
    }
    const { child, killed, told } = rogue(endless());
    const response = await ask(child);
    await killed;
    expect(told.filter((line) => line.includes("hold"))).toHaveLength(1);
    await expect(read(response.body)).rejects.toThrow("has ended");
  });

  it.each([
    ["no JSON", "}{"],
    ["what no relay says", '{"id":1,"run":"sh"}'],
    ["a line without an end", "x".repeat(RELAY_LIMITS.lineBytes + 1)],
  ])("that says %s is ended, and who asked is told", async (_name, line) => {
    const { child, killed } = rogue([line]);
    await expect(ask(child)).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await killed;
  });

  it("says nothing to a question that was given up", async () => {
    const { child, told } = rogue([HEAD, data("a"), data("b"), END]);
    const controller = new AbortController();
    const response = await relayedHttp(child)({ url: "http://127.0.0.1/", signal: controller.signal });
    controller.abort(new Error("enough"));
    expect(told.at(-1)).toBe('{"id":1,"say":"cut"}');
    await expect(read(response.body)).rejects.toThrow("enough");
  });
});
