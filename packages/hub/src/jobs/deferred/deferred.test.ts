import { type ErrorCode, errorRegistry, GfeError } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { coalesced } from "./pace.ts";
import { type EndedLine, resultLine } from "./results.ts";
import { parseLine } from "./validation.ts";
import { RUNS_MAX, verdictOf } from "./verdict.ts";

describe("a line of a batch", () => {
  test("of any text is either asked for or named as a fault, and never thrown about", () => {
    const anything = fc.oneof(
      fc.string(),
      fc.json(),
      fc
        .record(
          {
            custom_id: fc.anything(),
            method: fc.constantFrom("POST", "GET", 1),
            url: fc.constantFrom("/v1/embeddings", "/", null),
            body: fc.oneof(fc.object(), fc.anything()),
          },
          { requiredKeys: [] },
        )
        .map((line) => JSON.stringify(line) ?? ""),
    );
    fc.assert(
      fc.property(anything, (text) => {
        const parsed = parseLine(text, 3, "/v1/embeddings", new Set());
        expect(parsed.line).toBe(3);
        if ("code" in parsed) expect(parsed.message).not.toBe("");
        else {
          expect(`${parsed.customId}${parsed.model}`).not.toMatch(/\p{Cc}/u);
          expect(JSON.parse(parsed.body)).toEqual(JSON.parse(text).body);
        }
      }),
    );
  });

  test("nested too deep is a fault of its own: it neither throws nor stands in the way of other batches", () => {
    const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
    const line = `{"custom_id":"a","url":"/v1/embeddings","body":{"model":"m","input":${deep}}}`;
    expect(parseLine(line, 1, "/v1/embeddings", new Set())).toMatchObject({ code: "invalid_json_line" });
  });

  test("may be told by its custom id: none is taken twice", () => {
    const seen = new Set<string>();
    const line = JSON.stringify({ custom_id: "a", url: "/v1/embeddings", body: {} });
    expect(parseLine(line, 1, "/v1/embeddings", seen)).toMatchObject({ customId: "a" });
    expect(parseLine(line, 2, "/v1/embeddings", seen)).toMatchObject({
      code: "duplicate_custom_id",
      line: 2,
    });
  });

  test("comes out as one line of JSON, whatever is in it", () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1 }),
        fc.constantFrom<EndedLine["state"]>("completed", "failed", "cancelled", "expired"),
        fc.string(),
        (customId, state, message) => {
          const line = resultLine({
            ...{ id: "breq_1", line: 1, custom_id: customId, state, job_id: null },
            answer: JSON.stringify({ message }),
            error: JSON.stringify({ code: "engine_failed", message }),
          });
          expect(line.indexOf("\n")).toBe(line.length - 1);
          const { custom_id, response, error } = JSON.parse(line);
          expect(custom_id).toBe(customId);
          expect((response === null) !== (error === null)).toBe(true);
        },
      ),
    );
  });
});

describe("after a run", () => {
  const context = { runs: 0, ageMs: 0, stopped: false, othersHold: false };

  test("every error either ends the job or is waited out; those of nodes a few times only", () => {
    for (const code of Object.keys(errorRegistry) as ErrorCode[]) {
      const last = verdictOf(new GfeError(code), { ...context, runs: RUNS_MAX - 1, ageMs: 86_400_000 });
      const waits = ["no_slot", "overloaded", "rate_limited", "shutting_down"].includes(code);
      expect([code, last.state]).toEqual([code, waits ? "again" : "failed"]);
    }
    expect(verdictOf(new GfeError("node_lost"), context)).toMatchObject({ state: "again", counted: true });
    expect(verdictOf(new GfeError("invalid_request"), context).state).toBe("failed");
  });

  test("no credit is final, unless others of the account hold some that may come back", () => {
    const error = new GfeError("insufficient_quota");
    expect(verdictOf(error, context).state).toBe("failed");
    expect(verdictOf(error, { ...context, othersHold: true }).state).toBe("again");
  });

  test("a model that is away is waited for, but not for ever", () => {
    const error = new GfeError("model_not_found");
    expect(verdictOf(error, context).state).toBe("again");
    expect(verdictOf(error, { ...context, ageMs: 3_600_000 }).state).toBe("failed");
  });

  test("what its owner stopped is cancelled, what a stopping hub cut waits for the next", () => {
    expect(verdictOf(new GfeError("cancelled"), { ...context, stopped: true }).state).toBe("cancelled");
    expect(verdictOf(new GfeError("shutting_down"), { ...context, stopped: true })).toMatchObject({
      state: "again",
      counted: false,
    });
  });
});

test("coalesced work is never done twice at once, and is done after the last call for it", async () => {
  let at = 0;
  let most = 0;
  let asked = 0;
  let seen = 0;
  const work = coalesced(
    async () => {
      most = Math.max(most, ++at);
      const now = asked;
      await new Promise((resolve) => setImmediate(resolve));
      seen = now;
      at--;
      throw new Error("goes to its listener");
    },
    () => {},
  );
  for (let n = 0; n < 20; n++) {
    asked++;
    work.now();
    if (n % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await work.idle();
  expect([most, seen]).toEqual([1, asked]);
});
