/** Which API a path speaks: what an error looks like there. */
import { type GfeError, toAnthropicError, toOllamaError, toOpenAiError, toProblem } from "@gfe/protocol";

export interface Dialect {
  name: "openai" | "anthropic" | "ollama" | "gfe";
  errorBody(error: GfeError): object;
  errorType: "application/json" | "application/problem+json";
}

export const openAi: Dialect = { name: "openai", errorBody: toOpenAiError, errorType: "application/json" };
export const anthropic: Dialect = {
  name: "anthropic",
  errorBody: toAnthropicError,
  errorType: "application/json",
};
export const ollama: Dialect = { name: "ollama", errorBody: toOllamaError, errorType: "application/json" };
/** Our own REST, and the forerunner's. */
export const gfe: Dialect = { name: "gfe", errorBody: toProblem, errorType: "application/problem+json" };

const ANTHROPIC = /^\/v1\/messages(?=[/?]|$)/;
const OLLAMA = /^\/api\/(chat|generate|tags|show|ps|embed|embeddings|version)(?=[/?]|$)/;

/** `url` may have a query. */
export function dialectOf(url: string): Dialect {
  if (ANTHROPIC.test(url)) return anthropic;
  if (url.startsWith("/v1/")) return openAi;
  return OLLAMA.test(url) ? ollama : gfe;
}
