import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readEvents, type ServerSentEvent } from "./sse.ts";

const encoder = new TextEncoder();

async function read(chunks: Uint8Array[], onActivity?: () => void): Promise<ServerSentEvent[]> {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const part of chunks) controller.enqueue(part);
      controller.close();
    },
  });
  return gather(readEvents(body, onActivity));
}

async function gather<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const gathered: Item[] = [];
  for await (const item of items) gathered.push(item);
  return gathered;
}

const readText = (...chunks: string[]) => read(chunks.map((text) => encoder.encode(text)));

describe("readEvents", () => {
  it("reads the same events however the bytes are cut", async () => {
    const text =
      ': hi\r\nid: 7\r\nevent: stats\r\ndata: {"a":1}\r\n\r\ndata: größe – 字 🙂\ndata:two\n\nid: 8\rdata: x\r\rtail';
    const bytes = encoder.encode(text);
    const whole = await read([bytes]);
    expect(whole).toEqual([
      { event: "stats", data: '{"a":1}', id: "7" },
      { event: "message", data: "größe – 字 🙂\ntwo", id: "7" },
      { event: "message", data: "x", id: "8" },
    ]);
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: bytes.length - 1 }), { maxLength: bytes.length });
    await fc.assert(
      fc.asyncProperty(cuts, async (at) => {
        const edges = [0, ...at.sort((a, b) => a - b), bytes.length];
        const parts = edges.slice(1).map((end, i) => bytes.slice(edges[i], end));
        expect(await read(parts)).toEqual(whole);
      }),
    );
  });

  it("does not take a carriage return and line feed in two chunks for two line ends", async () => {
    expect(await readText("data: a\r", "\ndata: b\r", "\n\r", "\n")).toEqual([
      { event: "message", data: "a\nb", id: undefined },
    ]);
  });

  it("tells of comments as activity and yields nothing for them", async () => {
    let heard = 0;
    const chunks = [encoder.encode(": heartbeat\n\n"), encoder.encode(": heartbeat\n\n")];
    expect(await read(chunks, () => heard++)).toEqual([]);
    expect(heard).toBe(2);
  });

  it("drops an event whose end never came", async () => {
    expect(await readText("data: whole\n\ndata: half")).toHaveLength(1);
  });

  it("strips one space after the colon and ignores fields it does not know", async () => {
    expect(await readText("data:  two spaces\nretry: 5\nfoo\n\n")).toEqual([
      { event: "message", data: " two spaces", id: undefined },
    ]);
  });

  it("refuses an event without end instead of gathering it", async () => {
    const part = encoder.encode("x".repeat(1024 * 1024));
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent++;
        controller.enqueue(part);
      },
    });
    await expect(gather(readEvents(endless))).rejects.toThrow("no end");
    expect(sent).toBeLessThan(25);
  });

  it("refuses an event of endless empty lines instead of gathering them", async () => {
    const part = encoder.encode("data:\n".repeat(1024 * 1024));
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (++sent > 40) return controller.close();
        controller.enqueue(part);
      },
    });
    await expect(gather(readEvents(endless))).rejects.toThrow("no end");
  });

  it("reads any bytes whatever, in any pieces, as the same events, and throws at none", async () => {
    const line = fc.constantFrom(
      ...[
        "data: a",
        "data:",
        "data",
        "id: 7",
        "id: \0",
        "event: x",
        ": c",
        "retry: 1",
        "",
        "",
        "\ufeffdata: b",
        "🙂",
      ],
    );
    const stream = fc.oneof(
      fc
        .array(fc.tuple(line, fc.constantFrom("\n", "\r\n", "\r")), { maxLength: 20 })
        .map((lines) => encoder.encode(lines.flat().join(""))),
      fc.uint8Array({ maxLength: 200 }),
    );
    await fc.assert(
      fc.asyncProperty(stream, fc.array(fc.nat(200), { maxLength: 10 }), async (bytes, at) => {
        const edges = [0, ...at.filter((edge) => edge < bytes.length).sort((a, b) => a - b), bytes.length];
        const parts = edges.slice(1).map((end, i) => bytes.slice(edges[i], end));
        expect(await read(parts)).toEqual(await read([bytes]));
      }),
      { numRuns: 300 },
    );
  });
});
