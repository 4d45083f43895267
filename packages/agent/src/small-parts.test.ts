/** The agent's pure parts: prices, addresses, back-off, usage, probes, the writer of deltas. */
import { decodeDeltas, deltaKind } from "@gfe/protocol";
import { describe, expect, it } from "vitest";
import { DeltaWriter } from "./delta-writer.ts";
import type { RunResult } from "./host.ts";
import { parseHubAddress } from "./hub-address.ts";
import { SEND_LIMITS } from "./limits.ts";
import { backOffMs } from "./link.ts";
import { parsePrice } from "./price.ts";
import { probeGpus } from "./probe.ts";
import { usageOf } from "./receipts.ts";

describe("a price", () => {
  it.each([
    ["0.5", { per_request: "500000", per_million_input: "0", per_million_output: "0" }],
    [
      "request=0, in=0.2, out=0.6",
      { per_request: "0", per_million_input: "200000", per_million_output: "600000" },
    ],
    ["out=1", { per_request: "0", per_million_input: "0", per_million_output: "1000000" }],
    [
      "in=0.2,cached=0.05,min=0.01,batch=50",
      {
        per_request: "0",
        per_million_input: "200000",
        per_million_output: "0",
        per_million_cached_input: "50000",
        minimum: "10000",
        batch_discount: 50,
      },
    ],
    ["0", { per_request: "0", per_million_input: "0", per_million_output: "0" }],
  ])("of %s is read", (text, price) => {
    expect(parsePrice(text)).toEqual({ type: "price", price });
  });

  it.each(["", "-1", "1,5", "abc", "0.1234567", "tip=1", "in=1=2", "1000001", "in=", "__proto__=1"])(
    "of %s is refused",
    (text) => {
      expect(parsePrice(text).type).toBe("invalid");
    },
  );

  it.each([
    ["batch=91", /"91" is not a discount: write whole percent from 0 to 90/],
    ["batch=-1", /"-1" is not a discount/],
    ["batch=1.5", /"1.5" is not a discount/],
    ["in=1,cached=2", /cached input must not cost more/],
    ["tip=1", /request=, in=, cached=, out=, min=, batch=/],
  ])("of %s is refused with what is wrong", (text, message) => {
    expect(parsePrice(text)).toEqual({ type: "invalid", message: expect.stringMatching(message) });
  });
});

describe("a hub's address", () => {
  it.each([
    ["hub.example", "https://hub.example", "wss://hub.example/agent/v1/link"],
    [
      "https://hub.example:8443/some/page",
      "https://hub.example:8443",
      "wss://hub.example:8443/agent/v1/link",
    ],
    ["http://localhost:3000", "http://localhost:3000", "ws://localhost:3000/agent/v1/link"],
    ["ws://[::1]:3000", "http://[::1]:3000", "ws://[::1]:3000/agent/v1/link"],
  ])("%s is dialled safely", (text, origin, linkUrl) => {
    expect(parseHubAddress(text)).toEqual({ origin, linkUrl });
  });

  it.each(["http://hub.example", "ws://10.0.0.1", "http://127.0.0.1.evil.example"])(
    "%s is refused without encryption, unless allowed",
    (text) => {
      expect(() => parseHubAddress(text)).toThrow("without encryption");
      expect(parseHubAddress(text, true).linkUrl).toMatch(/^ws:/);
    },
  );

  it.each(["ftp://hub.example", "http://", "https://user:secret@hub.example"])("%s is none", (text) => {
    expect(() => parseHubAddress(text)).toThrow("not the address");
    expect(() => parseHubAddress(text)).not.toThrow("secret");
  });
});

describe("back-off", () => {
  it("doubles up to its bound, and never loses its jitter", () => {
    expect([0, 1, 2].map((failures) => backOffMs(failures, 0))).toEqual([250, 500, 1000]);
    expect(backOffMs(0, 0.999)).toBeGreaterThan(490);
    expect(backOffMs(1000, 1)).toBe(30_000);
    expect(backOffMs(1000, 0)).toBe(15_000);
  });
});

describe("usage", () => {
  const seen = { inputBytes: 10, outputBytes: 7, outputDeltas: 3, reasoningDeltas: 1 };
  it("is the engine's where it counts", () => {
    expect(
      usageOf({ inputTokens: 5, outputTokens: 6, cachedInputTokens: 99, reasoningTokens: 2 }, seen),
    ).toEqual({
      input_tokens: 5,
      cached_input_tokens: 5,
      output_tokens: 6,
      reasoning_tokens: 2,
      estimated: false,
    });
  });
  it.each([null, { inputTokens: 1.5, outputTokens: 1 }, { inputTokens: Number.NaN, outputTokens: 1 }])(
    "is estimated from what was delivered for %o",
    (told) => {
      expect(usageOf(told, seen)).toMatchObject({
        input_tokens: 3,
        output_tokens: 3,
        reasoning_tokens: 1,
        estimated: true,
      });
    },
  );
});

describe("probing GPUs", () => {
  const machine = (platform: string, outputs: Record<string, string>) => ({
    platform,
    run: async (command: string): Promise<RunResult> =>
      outputs[command] === undefined
        ? { type: "absent" }
        : { type: "ran", exitCode: 0, stdout: outputs[command] },
  });

  it("reads nvidia-smi and rocm-smi", async () => {
    const found = await probeGpus(
      machine("linux", {
        "nvidia-smi": "NVIDIA H100 80GB HBM3, 81559\nNVIDIA GB10, [N/A]\n",
        "rocm-smi": JSON.stringify({
          card0: { "Card Series": "AMD Radeon RX 7900 XTX", "VRAM Total Memory (B)": "25753026560" },
          system: { "Driver version": "6" },
        }),
      }),
    );
    expect(found).toEqual([
      { name: "NVIDIA H100 80GB HBM3", memory_bytes: 81559 * 1024 * 1024 },
      { name: "NVIDIA GB10", memory_bytes: 0 },
      { name: "AMD Radeon RX 7900 XTX", memory_bytes: 25753026560 },
    ]);
  });

  it("reads Apple's system_profiler", async () => {
    const found = await probeGpus(
      machine("darwin", {
        system_profiler: JSON.stringify({ SPDisplaysDataType: [{ sppci_model: "Apple M4 Max" }] }),
        sysctl: "68719476736\n",
      }),
    );
    expect(found).toEqual([{ name: "Apple M4 Max", memory_bytes: 68719476736 }]);
  });

  it("finds none, without an error, where no tool is or it talks nonsense", async () => {
    expect(await probeGpus(machine("linux", {}))).toEqual([]);
    const broken = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.";
    expect(await probeGpus(machine("linux", { "nvidia-smi": broken, "rocm-smi": "[]" }))).toEqual([]);
  });
});

describe("the writer of deltas", () => {
  function writerOf() {
    const sent: Uint8Array[] = [];
    const turns: (() => void)[] = [];
    const written: (() => void)[] = [];
    const socket = {
      bufferedBytes: 0,
      send(data: string | Uint8Array, done?: () => void) {
        sent.push(data as Uint8Array);
        if (done) written.push(done);
      },
    };
    const writer = new DeltaWriter(socket, (callback) => void turns.push(callback));
    const texts = () =>
      sent.map((message) => {
        const found: string[] = [];
        decodeDeltas(message, (_kind, _channel, payload) => found.push(new TextDecoder().decode(payload)));
        return found.join("|");
      });
    const turn = () => turns.splice(0).forEach((callback) => void callback());
    return { writer, socket, texts, turn, written };
  }

  it("sends what comes alone at once, and what comes in the same turn together", () => {
    const { writer, texts, turn } = writerOf();
    expect(writer.text(deltaKind.text, 1, "żó")).toBe(4);
    expect(texts()).toEqual(["żó"]);
    writer.text(deltaKind.text, 1, "b");
    writer.text(deltaKind.text, 2, "c");
    expect(texts()).toEqual(["żó"]);
    turn();
    expect(texts()).toEqual(["żó", "b|c"]);
    turn();
    writer.text(deltaKind.text, 1, "d");
    expect(texts()).toEqual(["żó", "b|c", "d"]);
  });

  it("holds engines back while the socket is congested, and loses nothing", async () => {
    const { writer, socket, texts, turn, written } = writerOf();
    socket.bufferedBytes = SEND_LIMITS.congestedBytes + 1;
    writer.text(deltaKind.text, 1, "a");
    expect(writer.congested).toBe(true);
    writer.text(deltaKind.text, 1, "b");
    turn();
    expect(texts()).toEqual(["a"]);
    const clear = writer.whenClear();
    socket.bufferedBytes = 0;
    for (const done of written.splice(0)) done();
    await clear;
    expect(writer.congested).toBe(false);
    expect(texts()).toEqual(["a", "b"]);
  });

  it("frees who waits when the socket closes", async () => {
    const { writer, socket } = writerOf();
    socket.bufferedBytes = SEND_LIMITS.congestedBytes + 1;
    writer.text(deltaKind.text, 1, "a");
    const clear = writer.whenClear();
    writer.close();
    await clear;
    writer.text(deltaKind.text, 1, "late");
    expect(writer.queuedBytes).toBe(0);
  });
});
