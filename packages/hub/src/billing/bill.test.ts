import type { PriceWire, Usage } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Before, type Bill, type BillInput, billOf, capOfRest } from "./bill.ts";
import { quoteOf } from "./quote.ts";

const PRICE_MAX = 10n ** 12n;
const micro = fc.oneof(
  fc.constantFrom("0", "1", "1000000", PRICE_MAX.toString()),
  fc.bigInt({ min: 0n, max: PRICE_MAX }).map(String),
);
const price: fc.Arbitrary<PriceWire> = fc.record(
  {
    per_request: micro,
    per_million_input: micro,
    per_million_output: micro,
    per_million_cached_input: micro,
    minimum: micro,
    batch_discount: fc.nat(90),
  },
  { requiredKeys: ["per_request", "per_million_input", "per_million_output"] },
);
const tokens = fc.oneof(fc.nat(10), fc.nat(100_000));
const usage: fc.Arbitrary<Usage> = fc.record({
  input_tokens: tokens,
  cached_input_tokens: tokens,
  output_tokens: tokens,
  reasoning_tokens: tokens,
  estimated: fc.boolean(),
});
const input: fc.Arbitrary<BillInput> = fc.record({
  quote: fc.tuple(price, tokens, tokens, fc.boolean()).map((parts) => quoteOf(...parts)),
  ending: fc.constantFrom("complete" as const, "broken" as const),
  delivered: fc.record({ bytes: tokens, deltas: tokens, vectors: fc.nat(2) }),
  claimed: fc.option(usage),
  inputTokensEstimate: tokens,
  feeBasisPoints: fc.integer({ min: 0, max: 10_000 }),
});

const flat: PriceWire = { per_request: "1000000", per_million_input: "0", per_million_output: "0" };
const metered: PriceWire = { per_request: "0", per_million_input: "2000000", per_million_output: "5000000" };
const given = (parts: Partial<BillInput> = {}): BillInput => ({
  quote: quoteOf(metered, 1000, 100),
  ending: "complete",
  delivered: { bytes: 400, deltas: 50, vectors: 0 },
  claimed: {
    input_tokens: 10,
    cached_input_tokens: 0,
    output_tokens: 40,
    reasoning_tokens: 0,
    estimated: false,
  },
  inputTokensEstimate: 12,
  feeBasisPoints: 500,
  ...parts,
});

describe("whatever a node claims and the hub saw", () => {
  test("the charge is never below nothing nor above what is held", () => {
    fc.assert(
      fc.property(input, (of) => {
        const { chargeMicro } = billOf(of);
        expect(chargeMicro >= 0n && chargeMicro <= of.quote.capMicro).toBe(true);
      }),
    );
  });

  test("fee and provider's part are the charge, to the last micro-credit, and neither is below nothing", () => {
    fc.assert(
      fc.property(input, (of) => {
        const { chargeMicro, feeMicro, providerMicro } = billOf(of);
        expect(feeMicro + providerMicro).toBe(chargeMicro);
        expect(feeMicro >= 0n && providerMicro >= 0n).toBe(true);
        expect(feeMicro * 10_000n <= chargeMicro * BigInt(of.feeBasisPoints)).toBe(true);
      }),
    );
  });

  test("a complete answer costs the minimum at least, and a token read from the cache never more than another", () => {
    fc.assert(
      fc.property(input, usage, (of, claimed) => {
        const delivered = { bytes: 1, deltas: 1, vectors: 0 };
        const bill = (cached_input_tokens: number) =>
          billOf({ ...of, delivered, ending: "complete", claimed: { ...claimed, cached_input_tokens } });
        expect(bill(0).chargeMicro >= of.quote.minimum).toBe(true);
        expect(bill(claimed.cached_input_tokens).chargeMicro <= bill(0).chargeMicro).toBe(true);
      }),
    );
  });

  test("a batch never costs more than the same job at once, nor is more held for it", () => {
    fc.assert(
      fc.property(input, price, tokens, tokens, (of, asked, inputMax, outputMax) => {
        const [batch, standard] = [true, false].map((isBatch) =>
          quoteOf(asked, inputMax, outputMax, isBatch),
        );
        expect(batch!.capMicro <= standard!.capMicro).toBe(true);
        const [cheap, full] = [batch!, standard!].map((quote) => billOf({ ...of, quote }).chargeMicro);
        expect(cheap! <= full!).toBe(true);
      }),
    );
  });

  test("of an answer that was stopped nobody pays for what was on its way, and a node gains by no count of bytes", () => {
    fc.assert(
      fc.property(input, fc.nat(200_000), (of, claimedBytes) => {
        const [all, share] = [billOf(of), billOf({ ...of, claimedBytes })];
        expect(share.chargeMicro <= all.chargeMicro).toBe(true);
        if (claimedBytes <= of.delivered.bytes) expect(share).toEqual(all);
      }),
    );
    const stopped = given({ ending: "broken", delivered: { bytes: 100, deltas: 10, vectors: 0 } });
    expect(billOf({ ...stopped, claimedBytes: 400 }).usage.output_tokens).toBe(10);
  });

  test("what delivered nothing costs nothing", () => {
    fc.assert(
      fc.property(input, (of) => {
        const { chargeMicro, usage } = billOf({
          ...of,
          delivered: { ...of.delivered, bytes: 0, vectors: 0 },
        });
        expect([chargeMicro, usage.output_tokens]).toEqual([0n, 0]);
      }),
    );
  });

  test("no count is above the node's claim, the hub's own bound, or what was asked for", () => {
    fc.assert(
      fc.property(input, (of) => {
        const { usage } = billOf(of);
        const claimedOutput = of.claimed?.output_tokens ?? of.delivered.deltas;
        expect(usage.output_tokens).toBe(
          Math.min(claimedOutput, of.delivered.bytes, of.quote.outputTokensMax),
        );
        expect(usage.input_tokens).toBe(
          Math.min(of.claimed?.input_tokens ?? of.inputTokensEstimate, of.quote.inputTokensMax),
        );
        expect(usage.cached_input_tokens).toBeLessThanOrEqual(usage.input_tokens);
        expect(usage.reasoning_tokens).toBeLessThanOrEqual(usage.output_tokens);
      }),
    );
  });

  test("claiming more output never pays less, and never more than the bytes support", () => {
    fc.assert(
      fc.property(input, usage, tokens, (of, claimed, more) => {
        const bill = (output_tokens: number) =>
          billOf({ ...of, claimed: { ...claimed, output_tokens } }).chargeMicro;
        expect(bill(claimed.output_tokens + more) >= bill(claimed.output_tokens)).toBe(true);
        expect(bill(Number.MAX_SAFE_INTEGER)).toBe(bill(of.delivered.bytes));
      }),
    );
  });

  test("a broken answer never costs more than the same one complete", () => {
    fc.assert(
      fc.property(input, (of) => {
        const [broken, complete] = (["broken", "complete"] as const).map((ending) =>
          billOf({ ...of, ending }),
        );
        expect(broken!.chargeMicro <= complete!.chargeMicro).toBe(true);
      }),
    );
  });
});

describe("a quote", () => {
  test("caps the job at its request price and every token it may use", () => {
    expect(quoteOf({ ...metered, per_request: "7" }, 1000, 100).capMicro).toBe(7n + 2000n + 500n);
  });

  test("rounds a part of a micro-credit up: no token is free", () => {
    expect(quoteOf({ ...metered, per_million_input: "0", per_million_output: "1" }, 0, 1).capMicro).toBe(1n);
    const quote = quoteOf({ ...metered, per_million_input: "1", per_million_output: "1" }, 10, 10);
    expect(billOf(given({ quote })).chargeMicro).toBe(1n);
  });

  test("covers the minimum, and input of which nothing was cached", () => {
    const price = { ...metered, per_million_cached_input: "1" };
    expect(quoteOf(price, 1000, 100).capMicro).toBe(2500n);
    expect(quoteOf({ ...price, minimum: "2500" }, 1000, 100).capMicro).toBe(2500n);
    expect(quoteOf({ ...price, minimum: "9999" }, 1000, 100).capMicro).toBe(9999n);
  });

  test("has the discount for batch work only, and never below the minimum", () => {
    const price = { ...metered, batch_discount: 50, minimum: "1300" };
    expect(quoteOf(price, 1000, 100)).toMatchObject({ discountPercent: 0, capMicro: 2500n });
    expect(quoteOf(price, 1000, 100, true)).toMatchObject({ discountPercent: 50, capMicro: 1300n });
    expect(quoteOf({ ...price, minimum: "0" }, 1000, 100, true).capMicro).toBe(1250n);
  });

  test("of nothing is nothing", () => {
    expect(
      quoteOf({ per_request: "0", per_million_input: "0", per_million_output: "0" }, 9, 9).capMicro,
    ).toBe(0n);
  });
});

describe("a bill", () => {
  test("is tokens at the quoted price, the fee rounded in the provider's favour", () => {
    expect(billOf(given())).toEqual({
      usage: { ...given().claimed, estimated: false },
      chargeMicro: 220n,
      feeMicro: 11n,
      providerMicro: 209n,
    });
    expect(billOf(given({ feeBasisPoints: 501 }))).toMatchObject({ feeMicro: 11n, providerMicro: 209n });
  });

  test("counts cached input apart", () => {
    const quote = quoteOf({ ...metered, per_million_cached_input: "500000" }, 1000, 100);
    const claimed = { ...given().claimed!, cached_input_tokens: 8 };
    // 2 at 2, 8 at 0.5, 40 at 5 micro-credits
    expect(billOf(given({ quote, claimed })).chargeMicro).toBe(4n + 4n + 200n);
    const asOther = billOf(given({ claimed })).chargeMicro;
    expect(asOther).toBe(220n); // the provider set no price for it
  });

  test("takes the discount off the sum and rounds once, in the provider's favour", () => {
    const quote = quoteOf({ ...metered, per_request: "1", batch_discount: 33 }, 1000, 100, true);
    expect(billOf(given({ quote })).chargeMicro).toBe(149n); // 221 × 0.67 = 148.07
  });

  test.each([
    ["complete", 1000n],
    ["broken", 220n],
  ] as const)("of a %s answer below the minimum is %d", (ending, owed) => {
    const quote = quoteOf({ ...metered, minimum: "1000" }, 1000, 100);
    expect(billOf(given({ quote, ending })).chargeMicro).toBe(owed);
  });

  test("without a receipt counts what the hub saw and says that it is an estimate", () => {
    const { usage, chargeMicro } = billOf(given({ claimed: null }));
    expect(usage).toMatchObject({ input_tokens: 12, output_tokens: 50, estimated: true });
    expect(chargeMicro).toBe(24n + 250n);
  });

  test("does not believe tokens that the relayed bytes cannot hold", () => {
    const delivered = { bytes: 3, deltas: 1, vectors: 0 };
    expect(billOf(given({ delivered })).usage.output_tokens).toBe(3);
  });

  test("of an embedding is owed once there are vectors, for its input", () => {
    const quote = quoteOf(metered, 1000, 0);
    const delivered = { bytes: 0, deltas: 1, vectors: 1 };
    expect(billOf(given({ quote, delivered }))).toMatchObject({
      chargeMicro: 20n,
      usage: { output_tokens: 0 },
    });
  });

  test("of a complete answer owes the whole request price, however short", () => {
    const quote = quoteOf(flat, 1000, 100);
    expect(billOf(given({ quote, delivered: { bytes: 1, deltas: 1, vectors: 0 } })).chargeMicro).toBe(
      1_000_000n,
    );
  });

  test.each([
    [0, 0n],
    [1, 10_000n],
    [40, 400_000n],
    [100, 1_000_000n],
    [5000, 1_000_000n],
  ])("of a broken one that delivered %d of 100 tokens owes that share of it", (output_tokens, owed) => {
    const claimed = { ...given().claimed!, output_tokens };
    const quote = quoteOf(flat, 1000, 100);
    const delivered = { bytes: 10_000, deltas: 1, vectors: 0 };
    expect(billOf(given({ quote, ending: "broken", delivered, claimed })).chargeMicro).toBe(owed);
  });
});

describe("an answer in parts, each by another node", () => {
  /** What each of some nodes said, and how it ended: all but the last broke off. */
  const parts = fc.array(
    fc.record({ price, outputTokens: fc.nat(200), claims: fc.option(tokens), lies: fc.nat(50) }),
    { minLength: 1, maxLength: 4 },
  );
  const job = fc.record({
    parts,
    inputTokens: tokens,
    outputMax: fc.nat(600),
    fee: fc.integer({ max: 10_000, min: 0 }),
  });

  type Given = typeof job extends fc.Arbitrary<infer T> ? T : never;

  /** The bills in order; a node whose rest would not fit into what is left is not asked, as in jobs/. */
  function bills({ parts: of, inputTokens, outputMax, fee }: Given) {
    const [first] = of;
    const held = quoteOf(first!.price, inputTokens, outputMax).capMicro;
    let before: Before | undefined;
    const made: Bill[] = [];
    for (const [index, part] of of.entries()) {
      const quote = quoteOf(part.price, inputTokens, outputMax);
      if (before && capOfRest(quote, before) > held - before.chargeMicro) continue;
      const bill = billOf({
        quote,
        ending: index === of.length - 1 ? "complete" : "broken",
        delivered: { bytes: part.outputTokens, deltas: part.outputTokens, vectors: 0 },
        claimed:
          part.claims === null ? null : { ...given().claimed!, output_tokens: part.outputTokens + part.lies },
        inputTokensEstimate: inputTokens,
        feeBasisPoints: fee,
        before,
      });
      made.push(bill);
      before = {
        outputTokens: (before?.outputTokens ?? 0) + bill.usage.output_tokens,
        chargeMicro: (before?.chargeMicro ?? 0n) + bill.chargeMicro,
        heldMicro: held,
      };
    }
    return { held, made };
  }

  test("never costs more than what was held, nor counts more tokens than were asked for, whoever says what", () => {
    fc.assert(
      fc.property(job, (of) => {
        const { held, made } = bills(of);
        const sum = made.reduce((total, { chargeMicro }) => total + chargeMicro, 0n);
        expect(sum <= held).toBe(true);
        expect(
          made.every(
            ({ chargeMicro, feeMicro, providerMicro }) =>
              chargeMicro >= 0n && feeMicro >= 0n && feeMicro + providerMicro === chargeMicro,
          ),
        ).toBe(true);
        const said = made.reduce((total, { usage }) => total + usage.output_tokens, 0);
        expect(said).toBeLessThanOrEqual(of.outputMax);
      }),
    );
  });

  test("pays its input once, to who began", () => {
    fc.assert(
      fc.property(job, (of) => {
        const { made } = bills(of);
        expect(made.slice(1).every(({ usage }) => usage.input_tokens === 0)).toBe(true);
      }),
    );
  });

  test("costs at one price what it would cost from one node, but for the rounding of each part", () => {
    fc.assert(
      fc.property(price, fc.nat(300), fc.nat(300), tokens, (one, head, tail, inputTokens) => {
        const quote = quoteOf({ ...one, minimum: "0" }, inputTokens, head + tail + 1);
        const common = { quote, claimed: null, inputTokensEstimate: inputTokens, feeBasisPoints: 500 };
        const said = (count: number) => ({ bytes: count, deltas: count, vectors: 0 });
        fc.pre(head > 0 && tail > 0);
        const alone = billOf({ ...common, ending: "complete", delivered: said(head + tail) });
        const begun = billOf({ ...common, ending: "broken", delivered: said(head) });
        const before = { outputTokens: head, chargeMicro: begun.chargeMicro, heldMicro: quote.capMicro };
        const ended = billOf({ ...common, ending: "complete", delivered: said(tail), before });
        const difference = begun.chargeMicro + ended.chargeMicro - alone.chargeMicro;
        expect(difference >= -2n && difference <= 2n).toBe(true);
      }),
    );
  });
});
