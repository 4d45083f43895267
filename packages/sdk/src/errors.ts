import { type ErrorCode, errorRegistry } from "@gfe/protocol";

/** A longer `retry-after` is taken for a mistake: nobody waits for it. */
const RETRY_AFTER_MAX_S = 24 * 3600;

export interface SdkErrorDetail {
  status?: number;
  param?: string | undefined;
  retryAfterS?: number | undefined;
  cause?: unknown;
}

/**
 * What the hub refused, or what went wrong on the way. `code` is from the protocol's registry, from better-auth (in
 * lower case), or one of ours: `unreachable`, `timeout`, `broken_stream`, `unexpected_answer`, `http_<status>`.
 */
export class SdkError extends Error {
  readonly code: string;
  /** HTTP status; 0 where there was no answer. */
  readonly status: number;
  /** The field at fault. */
  readonly param: string | undefined;
  readonly retryAfterS: number | undefined;

  constructor(code: string, message: string, detail: SdkErrorDetail = {}) {
    super(message, { cause: detail.cause });
    this.name = "SdkError";
    this.code = code;
    this.status = detail.status ?? (code in errorRegistry ? errorRegistry[code as ErrorCode].status : 0);
    this.param = detail.param;
    this.retryAfterS = detail.retryAfterS;
  }
}

/** From a refused response in any of the hub's dialects: problem+json, OpenAI's, better-auth's. */
export async function toSdkError(response: Response): Promise<SdkError> {
  const body = (await response.json().catch(() => null)) as Record<string, unknown> | null;
  const inner = (typeof body?.error === "object" ? body.error : body) as Record<string, unknown> | null;
  const message =
    text(inner?.detail) ??
    text(inner?.message) ??
    text(inner?.error_description) ??
    text(body?.error) ??
    `The hub answered ${response.status}`;
  const retryAfterS = Number(response.headers.get("retry-after"));
  return new SdkError((text(inner?.code) ?? `http_${response.status}`).toLowerCase(), message, {
    status: response.status,
    param: text(inner?.param),
    retryAfterS: retryAfterS > 0 && retryAfterS <= RETRY_AFTER_MAX_S ? retryAfterS : undefined,
  });
}

const text = (value: unknown): string | undefined =>
  typeof value === "string" && value !== "" ? value : undefined;
