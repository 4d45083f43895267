/** Why a wish was refused, in words for its caller. */
import { GfeError } from "@gfe/protocol";
import type { MatchResult, Wish } from "../market/match.ts";
import { capText } from "../market/price-cap.ts";

/** The parameter that asks for a capability, to name it in the error. */
const parameterOf: Record<string, string> = {
  tools: "tools",
  vision: "messages",
  json_mode: "response_format",
  json_schema: "response_format",
  logprobs: "logprobs",
  reasoning: "reasoning_effort",
  multiple_choices: "n",
  seed: "seed",
};

/** What a wish that cannot be served now is told. */
export function toError(result: MatchResult, wish: Wish): GfeError {
  switch (result.type) {
    case "model_not_found":
      return new GfeError("model_not_found", `No node offers the model ${JSON.stringify(wish.model)}`, {
        param: "model",
      });
    case "no_own_node":
      return new GfeError("no_own_node", "Only your own nodes offer this model, and nobody pays itself", {
        param: "model",
      });
    case "incapable": {
      const capability = result.missing[0] ?? "this";
      const detail = { param: parameterOf[capability] ?? "model" };
      return new GfeError(
        "unsupported_parameter",
        `No node that offers ${wish.model} supports ${capability}`,
        detail,
      );
    }
    case "context_too_short":
      return new GfeError(
        "context_length_exceeded",
        `The longest context offered is ${result.contextLengthMax} tokens`,
        { param: "messages" },
      );
    case "over_cap":
      return new GfeError(
        "over_price_cap",
        `No offer of ${wish.model} is within the cap on its price (${capText(result.cap)})`,
        { param: "max_price" },
      );
    case "none_left":
      return new GfeError("no_slot", undefined, { retryAfterS: 5 });
    case "busy":
    case "matched":
      return new GfeError("no_slot", undefined, { retryAfterS: 1 });
  }
}
