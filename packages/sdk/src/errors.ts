/** What the hub refused, or that it could not be reached. `code` is from the protocol's registry, or `unreachable`, `broken_stream`. */
export class SdkError extends Error {
  readonly code: string;
  /** HTTP status; 0 where there was no answer. */
  readonly status: number;
  readonly param: string | undefined;
  readonly retryAfterS: number | undefined;

  constructor(
    code: string,
    message: string,
    detail: {
      status?: number;
      param?: string | undefined;
      retryAfterS?: number | undefined;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause: detail.cause });
    this.name = "SdkError";
    this.code = code;
    this.status = detail.status ?? 0;
    this.param = detail.param;
    this.retryAfterS = detail.retryAfterS;
  }
}

/** From a refused response in any of the hub's dialects: problem+json, OpenAI's, better-auth's. */
export async function toSdkError(response: Response): Promise<SdkError> {
  const body = (await response.json().catch(() => null)) as Record<string, unknown> | null;
  const inner = (typeof body?.error === "object" ? body.error : body) as Record<string, unknown> | null;
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  const message =
    text(inner?.detail) ??
    text(inner?.message) ??
    text(inner?.error_description) ??
    text(body?.error) ??
    `The hub answered ${response.status}`;
  const retryAfter = Number(response.headers.get("retry-after"));
  return new SdkError((text(inner?.code) ?? `http_${response.status}`).toLowerCase(), message, {
    status: response.status,
    param: text(inner?.param),
    retryAfterS: retryAfter > 0 ? retryAfter : undefined,
  });
}
