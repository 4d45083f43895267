/** Why a wish was refused, in words for its caller. */
import { GfeError } from "@gfe/protocol";
import type { MatchResult, Need, Wish } from "../market/match.ts";
import { capText } from "../market/price-cap.ts";
import type { Full } from "./queue/fair-queue.ts";

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
  logit_bias: "logit_bias",
  tool_choice: "tool_choice",
  parallel_tool_calls: "parallel_tool_calls",
};

/** What no node does, and the field that asks for it. */
const filterWords: Partial<Record<Need, { words: string; param?: string }>> = {
  banned: { words: "is admitted now" },
  only: { words: "is one of provider.only", param: "provider.only" },
  ignore: { words: "is left after provider.ignore", param: "provider.ignore" },
  order: { words: "is one of provider.order, and fallbacks are not allowed", param: "provider.order" },
  quantizations: { words: "has one of provider.quantizations", param: "provider.quantizations" },
  region: { words: "stands in one of provider.region", param: "provider.region" },
  data_collection: { words: "says that it keeps no data", param: "provider.data_collection" },
  min_reputation: { words: "has so high a reputation", param: "provider.min_reputation" },
};

/** After so long a node that was restarted may be back. */
const AWAY_RETRY_S = 5;

/** The last offer of a model left a moment ago. */
export const awayError = ({ model }: Wish): GfeError =>
  new GfeError(
    "model_away",
    `The last node that offered ${JSON.stringify(model)} left a moment ago; it may be back shortly`,
    { param: "model", retryAfterS: AWAY_RETRY_S },
  );

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
      const param = parameterOf[capability] ?? "model";
      const what = [capability, "model"].includes(param) ? capability : `${capability} (${param})`;
      return new GfeError("unsupported_parameter", `No node that offers ${wish.model} supports ${what}`, {
        param,
      });
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
    case "filtered": {
      const { words, param } = filterWords[result.need] ?? { words: result.need };
      const message = `No node that offers ${wish.model} ${words}`;
      return new GfeError("no_eligible_node", message, param === undefined ? {} : { param });
    }
    case "none_left":
      return new GfeError("no_slot", undefined, { retryAfterS: 5 });
    case "busy":
    case "matched":
      return new GfeError("no_slot", undefined, { retryAfterS: 1 });
  }
}

/** What a wish that finds no room to wait is told. */
export function fullError(full: Full, { model }: Wish): GfeError {
  const detail = { retryAfterS: 5 };
  switch (full) {
    case "full":
      return new GfeError("overloaded", "The queue is full", detail);
    case "model_full":
      return new GfeError("overloaded", `The queue for ${model} is full`, detail);
    case "crowded":
      return new GfeError("rate_limited", "Too many of your requests wait already", detail);
  }
}
