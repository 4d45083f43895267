/**
 * The registry of errors a caller can meet: one code, one status, one plain title. `type` is OpenAI's word for the
 * family, so that SDKs raise the class their users expect. 429 and 503 are retried by SDKs: only for rate and load.
 */
export const errorRegistry = {
  invalid_request: { status: 400, type: "invalid_request_error", title: "The request is not valid" },
  invalid_json: { status: 400, type: "invalid_request_error", title: "The body is not valid JSON" },
  unsupported_parameter: {
    status: 400,
    type: "invalid_request_error",
    title: "No node can honour this parameter",
  },
  context_length_exceeded: {
    status: 400,
    type: "invalid_request_error",
    title: "The prompt is longer than the context",
  },
  invalid_api_key: { status: 401, type: "authentication_error", title: "The API key is not valid" },
  not_signed_in: { status: 401, type: "authentication_error", title: "Sign in first" },
  key_expired: { status: 401, type: "authentication_error", title: "The API key has expired" },
  key_revoked: { status: 401, type: "authentication_error", title: "The API key was revoked" },
  insufficient_quota: { status: 402, type: "insufficient_quota", title: "Not enough credit" },
  budget_exceeded: { status: 402, type: "insufficient_quota", title: "The budget of this key is used up" },
  forbidden: { status: 403, type: "permission_error", title: "Not allowed" },
  scope_missing: { status: 403, type: "permission_error", title: "The key lacks the scope for this" },
  origin_refused: { status: 403, type: "permission_error", title: "The request came from another site" },
  not_found: { status: 404, type: "invalid_request_error", title: "Not found" },
  model_not_found: { status: 404, type: "invalid_request_error", title: "No node offers this model" },
  method_not_allowed: { status: 405, type: "invalid_request_error", title: "Method not allowed" },
  conflict: { status: 409, type: "invalid_request_error", title: "The request conflicts with what is there" },
  body_too_large: { status: 413, type: "invalid_request_error", title: "The body is too large" },
  unsupported_media_type: { status: 415, type: "invalid_request_error", title: "Send application/json" },
  rate_limited: { status: 429, type: "rate_limit_error", title: "Too many requests" },
  internal: { status: 500, type: "server_error", title: "Something broke on our side" },
  engine_failed: { status: 502, type: "server_error", title: "The engine failed" },
  node_lost: { status: 502, type: "server_error", title: "The node went away" },
  no_own_node: { status: 400, type: "invalid_request_error", title: "Only your own nodes offer this model" },
  no_eligible_node: {
    status: 400,
    type: "invalid_request_error",
    title: "No node meets the request's filters",
  },
  over_price_cap: { status: 400, type: "invalid_request_error", title: "No offer is within the price cap" },
  model_away: { status: 503, type: "server_error", title: "No node offers this model at the moment" },
  no_slot: { status: 503, type: "server_error", title: "Every node for this model is busy" },
  overloaded: { status: 503, type: "server_error", title: "The hub is overloaded" },
  shutting_down: { status: 503, type: "server_error", title: "The hub is restarting" },
  first_token_timeout: {
    status: 504,
    type: "server_error",
    title: "The node did not start answering in time",
  },
  stalled: { status: 504, type: "server_error", title: "The node stopped answering" },
  total_timeout: { status: 504, type: "server_error", title: "The answer took too long" },
  cancelled: { status: 499, type: "invalid_request_error", title: "The caller went away" },
} as const satisfies Record<string, { status: number; type: string; title: string }>;

export type ErrorCode = keyof typeof errorRegistry;
export const errorCodes = Object.keys(errorRegistry) as ErrorCode[];

export interface GfeErrorDetail {
  /** The field at fault, as the caller wrote it: `messages[0].content`. */
  param?: string;
  /** When trying again makes sense, in seconds. */
  retryAfterS?: number;
  /** What really happened; for the log only, never for the caller. */
  cause?: unknown;
}

/** A fault that the caller should hear of. `message` is public; `cause` is not. Bugs are plain Errors. */
export class GfeError extends Error {
  readonly code: ErrorCode;
  readonly param: string | undefined;
  readonly retryAfterS: number | undefined;

  constructor(code: ErrorCode, message?: string, detail: GfeErrorDetail = {}) {
    super(message ?? errorRegistry[code].title, { cause: detail.cause });
    this.name = "GfeError";
    this.code = code;
    this.param = detail.param;
    this.retryAfterS = detail.retryAfterS;
  }

  get status(): number {
    return errorRegistry[this.code].status;
  }
}

export interface OpenAiErrorBody {
  error: { message: string; type: string; param: string | null; code: string };
}

/** OpenAI's error shape, used on `/v1` and inside streams. */
export function toOpenAiError(error: GfeError): OpenAiErrorBody {
  const { type } = errorRegistry[error.code];
  return { error: { message: error.message, type, param: error.param ?? null, code: error.code } };
}

const ANTHROPIC_TYPES: Record<number, string> = {
  400: "invalid_request_error",
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  503: "overloaded_error",
};

/** Anthropic's error shape, used on `/v1/messages` and inside its streams. */
export function toAnthropicError(error: GfeError): {
  type: "error";
  error: { type: string; message: string };
} {
  const other = error.status < 500 ? "invalid_request_error" : "api_error";
  return { type: "error", error: { type: ANTHROPIC_TYPES[error.status] ?? other, message: error.message } };
}

/** Ollama's error shape: its clients show an object as `[object Object]`. */
export const toOllamaError = (error: GfeError): { error: string } => ({ error: error.message });

export interface ProblemBody {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
  param?: string;
}

/** RFC 9457 problem+json, used on `/api`. */
export function toProblem(error: GfeError): ProblemBody {
  const { status, title } = errorRegistry[error.code];
  const problem: ProblemBody = {
    type: `urn:gfe:error:${error.code}`,
    title,
    status,
    detail: error.message,
    code: error.code,
  };
  return error.param === undefined ? problem : { ...problem, param: error.param };
}

/** For exhaustive switches: a value that the types say cannot be. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}
