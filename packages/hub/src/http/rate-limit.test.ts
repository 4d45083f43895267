import { expect, it } from "vitest";
import { createRateLimiter, SUBJECTS_MAX } from "./rate-limit.ts";

function begin(requestsPerMinute: number, tokensPerMinute: number) {
  let ms = 0;
  const limiter = createRateLimiter(() => ms);
  const account = { id: "account", limits: { requestsPerMinute, tokensPerMinute } };
  const pass = (passedMs: number) => {
    ms += passedMs;
  };
  return {
    limiter,
    account,
    pass,
    of: (...more: (typeof account)[]) => limiter.allowanceOf([account, ...more]),
  };
}

it("lets a minute's requests through at once, then as many as come back, and says when", () => {
  const { of, pass } = begin(6, 0);
  for (let i = 0; i < 6; i++) of().begin();
  expect(() => of().begin()).toThrow(expect.objectContaining({ code: "rate_limited", retryAfterS: 10 }));
  pass(10_000);
  of().begin();
  expect(() => of().begin()).toThrow("More than 6 requests a minute");
  pass(10 * 60_000);
  for (let i = 0; i < 6; i++) of().begin(); // no more than a minute's worth is saved up
  expect(() => of().begin()).toThrow();
});

it("charges tokens by the estimate and corrects them at the end, also beyond what is there", () => {
  const { of, pass } = begin(0, 600);
  of().take(400);
  expect(() => of().take(300)).toThrow(expect.objectContaining({ retryAfterS: 10 }));
  of().correct(-300);
  of().take(500);
  of().correct(600); // it took more than it asked for: a minute's debt
  expect(of().headers()).toEqual({
    "x-ratelimit-limit-tokens": "600",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-reset-tokens": "2m0s",
  });
  pass(60_000);
  expect(() => of().take(1)).toThrow(expect.objectContaining({ retryAfterS: 1 }));
  pass(60_000);
  of().take(10_000); // more than a minute's worth may begin when the bucket is full
  expect(() => of().take(1)).toThrow();
});

it("holds a key to its own limit as well, and charges nobody for what one subject refuses", () => {
  const { of, limiter, account } = begin(10, 0);
  const key = { id: "key", limits: { requestsPerMinute: 2, tokensPerMinute: 0 } };
  of(key).begin();
  expect(of(key).headers()).toEqual({
    "x-ratelimit-limit-requests": "2",
    "x-ratelimit-remaining-requests": "1",
    "x-ratelimit-reset-requests": "30s",
  });
  of(key).begin();
  expect(() => of(key).begin()).toThrow("More than 2 requests a minute");
  expect(limiter.allowanceOf([account]).headers()["x-ratelimit-remaining-requests"]).toBe("8");
});

it("remembers a bounded number of accounts", () => {
  const { limiter, account } = begin(1, 0);
  limiter.allowanceOf([account]).begin();
  for (let i = 0; i < SUBJECTS_MAX; i++) limiter.allowanceOf([{ ...account, id: String(i) }]);
  limiter.allowanceOf([account]).begin(); // the first was forgotten
  limiter.allowanceOf([{ ...account, id: String(SUBJECTS_MAX - 1) }]).begin();
});

it("tells other hubs what was used, once, and counts what they tell, also of a subject it never saw", () => {
  const here = createRateLimiter(() => 0, { shared: true });
  const there = createRateLimiter(() => 0, { shared: true });
  const subjects = [{ id: "account", limits: { requestsPerMinute: 3, tokensPerMinute: 100 } }];
  here.allowanceOf(subjects).begin();
  here.allowanceOf(subjects).begin();
  here.allowanceOf(subjects).take(90);
  there.learn(here.take(10));
  expect([here.take(10), there.take(10)]).toEqual([[], []]);
  there.allowanceOf(subjects).begin();
  expect(() => there.allowanceOf(subjects).begin()).toThrow("More than 3 requests a minute");
  expect(() => there.allowanceOf(subjects).take(20)).toThrow("More than 100 tokens a minute");
  here.allowanceOf(subjects).correct(-60);
  there.learn(here.take(10));
  there.allowanceOf(subjects).take(20);
});

it("keeps nothing for other hubs where there are none, and no more than of so many subjects where there are", () => {
  const alone = createRateLimiter(() => 0);
  const shared = createRateLimiter(() => 0, { shared: true });
  for (let i = 0; i <= SUBJECTS_MAX; i++) {
    const subject = { id: `account ${i}`, limits: { requestsPerMinute: 3, tokensPerMinute: 0 } };
    alone.allowanceOf([subject]).begin();
    shared.allowanceOf([subject]).begin();
  }
  expect(alone.take(10)).toEqual([]);
  expect(shared.take(SUBJECTS_MAX + 10)).toHaveLength(SUBJECTS_MAX);
});
