import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { AgentStatus } from "../control/status.ts";
import { type PanelView, render } from "./render.ts";
import { cut, padded, printable, widthOf } from "./text.ts";

const COLOUR = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g");
const NOW = Date.UTC(2026, 10, 23, 19, 30, 0);

const statusOf = (patch: Partial<AgentStatus> = {}): AgentStatus => ({
  ...{ version: "0.1.0", process_id: 42, started_at_ms: NOW - 11_520_000, now_ms: NOW },
  ...{ name: "quick-fox", hub: "https://hub.example.org", node_id: "node_1", draining: false, slots: 4 },
  connection: { state: "joined", since_ms: NOW - 11_000_000, problem: null, retry_at_ms: null },
  engines: [
    { kind: "ollama", label: "http://127.0.0.1:11434", models: 2, error: null, notes: [], compute: null },
  ],
  offers: [
    { model: "llama3.2:1b", slots: 4, running: 1, engine: "ollama" },
    { model: "qwen3:8b", slots: 2, running: 0, engine: "ollama" },
  ],
  attempts: [
    { attempt: "att_1", model: "llama3.2:1b", started_at_ms: NOW - 3_100, tokens: 128, tokens_s: 45.12 },
  ],
  withdrawn: [],
  ...{ measuring: false, speeds: [] },
  paused: [],
  limits: {},
  schedule: { on: true, windows: [] },
  gpus: [
    {
      ...{ name: "NVIDIA GeForce RTX 4090", load_percent: 93, memory_used_bytes: 18.2 * 2 ** 30 },
      ...{ memory_bytes: 24 * 2 ** 30, temperature_c: 71, power_w: 310.4 },
    },
  ],
  served: { done: 41, failed: 0, input_tokens: 1000, output_tokens: 5000 },
  earnings: {
    ...{ today_micro: "12503000", jobs_today: 41, hour_micro: "1200000", since_start_micro: "12503000" },
    ...{ available_micro: "130400000", asked_at_ms: NOW },
  },
  waiting: 3,
  pause_when: { keyboard_minutes: null, game: true, battery: true, metered: true },
  sandbox: null,
  ...patch,
});

const viewOf = (patch: Partial<AgentStatus> = {}, more: Partial<PanelView> = {}): PanelView => ({
  status: statusOf(patch),
  records: [
    { at_ms: NOW - 60_000, type: "joined", node_id: "node_1" },
    {
      ...{ at_ms: NOW - 5_000, type: "attempt.ended", attempt: "att_0", model: "qwen3:8b", failure: null },
      ...{ input_tokens: 12, output_tokens: 200, duration_ms: 4_200 },
    },
  ],
  ...{ prompt: null, help: false, zoneMinutes: 60 },
  ...more,
});

const plain = (view: PanelView, columns: number, rows: number) => render(view, { columns, rows }, false);

describe("the panel", () => {
  it("shows earnings, GPU, queue, running answers, models and events", () => {
    expect(plain(viewOf(), 96, 19).join("\n")).toBe(
      `
GPU For Everyone · quick-fox                                       hub.example.org · up 3 h 12 m
● Serving — 1 answer running

Earned    12.5 credits today, 41 answers  rate 1.2/h  balance 130.4
GPU       NVIDIA GeForce RTX 4090       93 %  18.2/24.0 GiB  71 °C  310 W
Queue     3 requests at the hub

Running, 1 of 4
  llama3.2:1b                                 128 tokens   45.1/s  3.1 s

Models
  llama3.2:1b                                        1/4  ollama
  qwen3:8b                                           0/2  ollama

Events
  20:29:00  Joined as node_1. Waiting for work.
  20:29:55  ✓ qwen3:8b: 12 + 200 tokens in 4.2 s

p pause  l limits  s schedule  q quit  ? help`.slice(1),
    );
  });

  it("fits a narrow and low terminal, and keeps what matters most", () => {
    expect(plain(viewOf(), 40, 9).join("\n")).toBe(
      `
GPU For Everyone · quick-fox
● Serving — 1 answer running

Earned    12.5 credits today, 41 answers
GPU       93 %  18.2/24.0 GiB  71 °C  3…
Queue     3 requests at the hub

Running, 1 of 4
p pause  l limits  s schedule  q quit  ?`.slice(1),
    );
  });

  it.each<[string, Partial<AgentStatus>, string]>([
    ["waits for work", { attempts: [] }, "● Serving — waiting for work"],
    [
      "is paused",
      { paused: [{ code: "keyboard", message: "you are at the keyboard" }] },
      "‖ Paused — you are at the keyboard",
    ],
    [
      "is paused for a while",
      { paused: [{ code: "owner_paused", message: "you paused it", until_ms: NOW + 600_000 }] },
      "‖ Paused — you paused it; for 10 m 0 s more",
    ],
    [
      "has lost its hub",
      {
        connection: {
          state: "waiting",
          since_ms: NOW,
          problem: "the hub answered 503",
          retry_at_ms: NOW + 4_200,
        },
      },
      "✗ Offline — the hub is not reached (the hub answered 503); trying again in 5 s",
    ],
    [
      "has no engine",
      { offers: [], engines: [], attempts: [] },
      "○ Idle — nothing to offer: no engine was found; start Ollama or another one",
    ],
    [
      "keeps its only model back",
      {
        ...{ offers: [], attempts: [] },
        withdrawn: [
          {
            ...{ model: "qwen3:8b", engine: "http://127.0.0.1:11434", code: "hung" },
            ...{ reason: "the engine said nothing", retry_in_ms: 30_000 },
          },
        ],
      },
      "○ Idle — nothing to offer: qwen3:8b is kept back, the engine said nothing",
    ],
    ["leaves", { draining: true }, "◌ Leaving — letting 1 answer end, then leaving"],
  ])("says in plain words that it %s", (_what, patch, words) => {
    expect(plain(viewOf(patch), 120, 20)[1]).toBe(words);
  });

  it("says that the hub has told no earnings yet, rather than none", () => {
    expect(plain(viewOf({ earnings: null }), 80, 20)[3]).toBe("Earned    not told yet");
  });

  it("shows help, and a question in the last line", () => {
    const lines = plain(viewOf({}, { help: true, prompt: "Answers at once, now 4: 2_" }), 80, 12);
    expect(lines[0]).toBe("Keys");
    expect(lines.at(-1)).toBe("Answers at once, now 4: 2_");
  });

  it("colours only where colours are wanted", () => {
    const coloured = render(viewOf(), { columns: 96, rows: 19 }, true);
    expect(coloured.join("")).toContain("\u001b[");
    expect(coloured.map((line) => line.replaceAll(COLOUR, ""))).toEqual(plain(viewOf(), 96, 19));
  });

  it("is never wider or higher than the terminal, and lets no stranger move the cursor", () => {
    const nasty = fc.oneof(
      fc.string({ unit: "binary", maxLength: 60 }),
      fc.constantFrom(
        "\u001b[2Jgone",
        "模型模型模型模型模型",
        "a\u0301".repeat(30),
        "👩‍👩‍👧‍👦 model",
        "\u202egnp.exe",
        "tab\there\nline",
      ),
    );
    fc.assert(
      fc.property(
        nasty,
        nasty,
        nasty,
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 60 }),
        (name, model, words, columns, rows) => {
          const view = viewOf(
            {
              ...{ name, hub: `https://${words}` },
              offers: [{ model, slots: 1, running: 0, engine: name }],
              attempts: [{ attempt: "a", model, started_at_ms: 0, tokens: 1, tokens_s: null }],
              engines: [{ kind: name, label: model, models: 0, error: words, notes: [], compute: null }],
              withdrawn: [{ model, engine: name, code: "hung", reason: words, retry_in_ms: null }],
              paused: [{ code: "schedule", message: words }],
            },
            { records: [{ at_ms: NOW, type: "warning", message: words }], prompt: name },
          );
          const lines = plain(view, columns, rows);
          expect(lines.length).toBe(rows);
          for (const line of lines) {
            expect(widthOf(line)).toBeLessThanOrEqual(columns);
            expect(line).not.toMatch(/[\p{Cc}\p{Cf}]/u);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("text", () => {
  it("has the width that terminals give it", () => {
    for (const [text, width] of [
      ["abc", 3],
      ["模型", 4],
      ["e\u0301", 1],
      ["한글", 4],
      ["🚀", 2],
      ["ﬁ", 1],
      ["", 0],
    ] as const)
      expect([text, widthOf(text)]).toEqual([text, width]);
  });

  it("is cut before a wide character that would not fit", () => {
    expect(cut("模型模型", 6)).toBe("模型…");
    expect(cut("模型模型", 8)).toBe("模型模型");
    expect(padded("模型", 5)).toBe("模型 ");
    expect(printable("a\u001b[31mb\r\nc")).toBe("a[31mb c");
  });
});
