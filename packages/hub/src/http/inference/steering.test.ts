import { GfeError } from "@gfe/protocol";
import { describe, expect, it } from "vitest";
import { parseBody } from "../parse.ts";
import { chatRequest } from "./requests.ts";
import { chatBodySchema } from "./schemas.ts";

const jobOf = (provider: unknown) =>
  chatRequest(
    parseBody(chatBodySchema, { model: "m", messages: [{ role: "user", content: "hi" }], provider }),
    { userId: "u", account: "user:u" },
  );

describe("the provider object", () => {
  it("steers the job and is not sent to the engine", () => {
    const job = jobOf({ sort: "price", order: ["attic"], region: "DE", quantizations: ["Q4_0", "q8_0"] });
    expect(job.steering).toMatchObject({
      sort: "price",
      order: ["attic"],
      regions: ["de"],
      quantisations: ["q4_0", "q8_0"],
      anyQuantisation: true,
    });
    expect(job.body).not.toHaveProperty("provider");
    expect(jobOf(null).steering).toBeUndefined();
  });

  it.each([
    [0.07, "70000"],
    ["0.07", "70000"],
    [1e-7, "0"],
    ["0.0000019", "1"],
    [1_000_000, "1000000000000"],
  ])("max_price %j is %s micro-credits", (credits, micro) => {
    expect(jobOf({ max_price: { prompt: credits } }).steering?.maxPrice).toMatchObject({
      per_million_input: micro,
    });
  });

  it.each([
    [{ max_price: { prompt: -1 } }, "provider.max_price.prompt"],
    [{ max_price: { completion: "1e3" } }, "provider.max_price.completion"],
    [{ max_price: { request: "" } }, "provider.max_price.request"],
    [{ max_price: { prompt: true } }, "provider.max_price.prompt"],
    [{ sort: "luck" }, "provider.sort"],
    [{ order: [] }, "provider.order"],
    [{ surprise: 1 }, "provider.surprise"],
    [{ only: ["a"], ignore: ["a", "b"] }, "provider.ignore"],
  ])("%j is refused by name", (provider, param) => {
    const refused = () => jobOf(provider);
    expect(refused).toThrow(GfeError);
    expect(refused).toThrow(expect.objectContaining({ status: 400, param }));
  });
});
