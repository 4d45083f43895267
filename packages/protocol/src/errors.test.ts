import { describe, expect, test } from "vitest";
import { type ErrorCode, errorRegistry, GfeError, toOpenAiError, toProblem, unreachable } from "./errors.ts";

const codes = Object.keys(errorRegistry) as ErrorCode[];

describe.each(codes)("%s", (code) => {
  const { status, type, title } = errorRegistry[code];

  test("has a status of a caller's or of the hub's fault, and the type that OpenAI's SDKs know for it", () => {
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(600);
    const family =
      status === 401
        ? "authentication_error"
        : status === 402
          ? "insufficient_quota"
          : status === 403
            ? "permission_error"
            : status === 429
              ? "rate_limit_error"
              : status >= 500
                ? "server_error"
                : "invalid_request_error";
    expect(type).toBe(family);
  });

  test("is told in OpenAI's shape", () => {
    expect(toOpenAiError(new GfeError(code))).toEqual({ error: { message: title, type, param: null, code } });
    expect(toOpenAiError(new GfeError(code, "what", { param: "messages[0]" }))).toEqual({
      error: { message: "what", type, param: "messages[0]", code },
    });
  });

  test("is told as a problem", () => {
    expect(toProblem(new GfeError(code))).toEqual({
      type: `urn:gfe:error:${code}`,
      title,
      status,
      detail: title,
      code,
    });
    expect(toProblem(new GfeError(code, "what", { param: "limit" }))).toMatchObject({
      detail: "what",
      param: "limit",
    });
  });
});

test("only faults of rate and load have a status that SDKs retry by themselves", () => {
  const retried = codes.filter((code) => [409, 429, 503].includes(errorRegistry[code].status));
  expect(retried.sort()).toEqual([
    ...["conflict", "model_away", "no_slot", "overloaded", "rate_limited", "shutting_down"],
  ]);
});

test("what really happened is in no answer", () => {
  const error = new GfeError("internal", undefined, { cause: new Error("password=hunter2"), retryAfterS: 3 });
  for (const body of [toOpenAiError(error), toProblem(error)])
    expect(JSON.stringify(body)).not.toContain("hunter2");
  expect(error).toMatchObject({ status: 500, retryAfterS: 3, cause: expect.any(Error) });
});

test("a value that cannot be is a bug, told with the value", () => {
  expect(() => unreachable("surprise" as never)).toThrow('unreachable: "surprise"');
});
