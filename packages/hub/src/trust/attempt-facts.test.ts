import type { ModelOffer, SignedReceipt, Usage } from "@gfe/protocol";
import { describe, expect, test } from "vitest";
import { type AttemptReport, factsOf, modelKey, OVERCLAIM_SLACK_TOKENS } from "./attempt-facts.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;
const offer: ModelOffer = {
  model: "m",
  digest: DIGEST,
  context_length: 8192,
  capabilities: ["chat"],
  slots: 1,
  price: { per_request: "0", per_million_input: "0", per_million_output: "0" },
  engine: "scripted",
};
const usage = (output_tokens: number): Usage => ({
  input_tokens: 1,
  cached_input_tokens: 0,
  output_tokens,
  reasoning_tokens: 0,
  estimated: false,
});
const signed = (receipt: Partial<SignedReceipt["receipt"]> = {}): SignedReceipt => ({
  receipt: {
    purpose: "gfe-receipt-v1",
    attempt: "att_1",
    node_key: "key",
    digest: DIGEST,
    seq: 1,
    usage: usage(101),
    output_bytes: 400,
    logprob_commitment: null,
    ...receipt,
  },
  signature: "",
});
/** 101 tokens in 2 s after a first one that took 500 ms. */
const good: AttemptReport = {
  nodeId: "node_1",
  offer,
  state: "done",
  code: null,
  delivered: { bytes: 400, deltas: 100, vectors: 0 },
  receipt: signed(),
  claimed: usage(101),
  choices: 1,
  startedAtMs: 1_000,
  firstDeltaAtMs: 1_500,
  endedAtMs: 3_500,
  paused: false,
};
const facts = (change: Partial<AttemptReport> = {}, usual = {}) => factsOf({ ...good, ...change }, usual);
const failedAudit = (reason: string) => [{ kind: "audit", pass: false, reason }];

test("an honest answer is a success, with its speed", () => {
  expect(facts()).toEqual([{ kind: "success", measure: { tokens_per_second: 50, ttft_ms: 500 } }]);
});

test("an offer's promise counts before the node's own past, which stands for what is not promised", () => {
  const promising = { ...offer, promised: { tokens_per_second: 40 } };
  expect(facts({ offer: promising }, { tokensPerSecond: 60, ttftMs: 300 })).toEqual([
    {
      kind: "success",
      measure: {
        tokens_per_second: 50,
        promised_tokens_per_second: 40,
        ttft_ms: 500,
        promised_ttft_ms: 300,
      },
    },
  ]);
});

test.each<[string, Partial<AttemptReport>]>([
  ["a slow reader held it back", { paused: true }],
  ["the answer came in one piece", { delivered: { bytes: 400, deltas: 1, vectors: 0 } }],
])("no speed is taken where %s", (_what, change) => {
  expect(facts(change)).toEqual([{ kind: "success" }]);
});

describe("an answer with a wrong receipt is no success but a failed audit", () => {
  test.each<[string, Partial<AttemptReport>]>([
    ["receipt_invalid", { claimed: null }],
    ["receipt_invalid", { receipt: undefined, claimed: null }],
    ["digest_differs", { receipt: signed({ digest: `sha256:${"b".repeat(64)}` }) }],
    ["overclaimed", { claimed: usage(400 + OVERCLAIM_SLACK_TOKENS + 1) }],
    ["receipt_disagrees", { receipt: signed({ output_bytes: 600 }) }],
    ["receipt_disagrees", { receipt: signed({ output_bytes: 200 }) }],
  ])("%s", (reason, change) => {
    expect(facts(change)).toEqual(failedAudit(reason));
  });

  test("but what an honest engine may count beside the text is not", () => {
    const claimed = usage(2 + OVERCLAIM_SLACK_TOKENS);
    const delivered = { bytes: 2, deltas: 1, vectors: 0 };
    expect(facts({ claimed, delivered, receipt: signed({ output_bytes: 2 }) })).toEqual([
      { kind: "success" },
    ]);
  });
});

describe("of what failed", () => {
  test.each(["engine_failed", "node_lost", "first_token_timeout", "stalled", "no_slot"])(
    "%s is the node's own",
    (code) => {
      expect(facts({ state: "failed", code })).toEqual([{ kind: "failure", reason: code }]);
    },
  );

  test.each(["invalid_request", "context_length_exceeded", "unsupported_parameter", "shutting_down"])(
    "%s is not",
    (code) => {
      expect(facts({ state: "failed", code })).toEqual([]);
    },
  );

  test("a job that took all its time is the node's failure only where nothing came", () => {
    const nothing = { bytes: 0, deltas: 0, vectors: 0 };
    expect(facts({ state: "failed", code: "total_timeout" })).toEqual([]);
    expect(facts({ state: "failed", code: "total_timeout", delivered: nothing })).toHaveLength(1);
  });
});

test("a caller that left, and an empty answer, tell nothing", () => {
  expect(facts({ state: "cancelled", code: "cancelled" })).toEqual([]);
  const empty = { delivered: { bytes: 0, deltas: 0, vectors: 0 }, claimed: usage(0) };
  expect(facts({ ...empty, receipt: signed({ output_bytes: 0 }) })).toEqual([]);
});

test("a model is known by its digest, else by its name", () => {
  expect(modelKey(offer)).toBe(DIGEST);
  expect(modelKey({ model: "m" })).toBe("m");
});
