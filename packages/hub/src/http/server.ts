/**
 * The HTTP edge: one Fastify, request ids, limits, security headers, and one place where a fault becomes an answer in
 * the shape that the path's dialect has for it (dialects.ts). What went wrong inside is logged under the request's id and never
 * told. Neither bodies nor headers are logged.
 */
import { GfeError, isTooDeep, JSON_DEPTH_MAX, newId } from "@gfe/protocol";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from "fastify";
import { serializerCompiler, validatorCompiler } from "fastify-type-provider-zod";
import { dialectOf, gfe } from "./dialects.ts";
import { rememberMethods } from "./methods.ts";
import { ANSWER_HEADERS, PAGE_HEADERS } from "./security-headers.ts";

export interface ServerOptions {
  log: FastifyBaseLogger;
  bodyLimitBytes: number;
  /** Addresses of proxies whose X-Forwarded-For is believed. */
  trustedProxies: string[];
  /** Whether answers travel over HTTPS: HSTS is sent then. */
  https: boolean;
  /** For tests that cannot wait. */
  times?: { headersMs: number; requestMs: number; checkMs: number };
}

/** How long a request may take to arrive; who sends it slower than this is cut off. An answer has no such bound. */
export const REQUEST_TIMES = {
  /** From the connection, or the request before, to the end of the headers. */
  headersMs: 15_000,
  /** To the end of the body: the largest, a file of 64 MiB, arrives within it at 1.8 Mbit/s. */
  requestMs: 300_000,
  /** Between two looks at who is late. */
  checkMs: 5_000,
} as const;

/** Client-sent request ids are kept where they look like one. */
const REQUEST_ID = /^[A-Za-z0-9._-]{8,100}$/;

export function createServer(options: ServerOptions): FastifyInstance {
  const times = options.times ?? REQUEST_TIMES;
  const protect = (request: FastifyRequest, reply: FastifyReply): void => {
    reply.header("x-request-id", request.id);
    reply.headers(dialectOf(request.url) === gfe ? PAGE_HEADERS : ANSWER_HEADERS);
    if (options.https) reply.header("strict-transport-security", "max-age=31536000");
  };
  const app = Fastify({
    loggerInstance: options.log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: options.bodyLimitBytes,
    trustProxy: options.trustedProxies.length > 0 ? options.trustedProxies : false,
    routerOptions: { maxParamLength: 300, ignoreTrailingSlash: true },
    requestIdHeader: false,
    genReqId: (request) => {
      const sent = request.headers["x-request-id"];
      return typeof sent === "string" && REQUEST_ID.test(sent) ? sent : newId("req");
    },
    // An address that cannot be decoded reaches no route and no hook.
    frameworkErrors(error, request, reply) {
      protect(request, reply);
      answerFault(error, request, reply);
    },
    // Streams live long; a connection that sends no request, or one byte of it now and then, does not.
    http: { headersTimeout: times.headersMs, connectionsCheckingInterval: times.checkMs },
    requestTimeout: times.requestMs,
    keepAliveTimeout: 75_000,
    forceCloseConnections: true,
  });
  // Bodies are JSON: text is refused as what it is, not as JSON of a wrong shape.
  app.removeContentTypeParser(["text/plain", "application/json"]);
  const parseJson = app.getDefaultJsonParser("error", "error");
  app.addContentTypeParser("application/json", { parseAs: "string" }, (request, body, done) =>
    parseJson(request, body as string, (error, value) =>
      isTooDeep(value)
        ? done(new GfeError("invalid_request", `The body is nested deeper than ${JSON_DEPTH_MAX} levels`))
        : done(error, value),
    ),
  );
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);

  app.addHook("onRequest", (request, reply, done) => {
    protect(request, reply);
    done();
  });

  app.setErrorHandler(answerFault);
  rememberMethods(app);
  return app;
}

function answerFault(
  thrown: FastifyError | GfeError | Error,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const error = toGfeError(thrown);
  const level = error.status >= 500 ? "error" : "debug";
  const cause = error.cause ?? thrown;
  request.log[level](
    { request: request.id, code: error.code, cause: cause instanceof Error ? cause.stack : String(cause) },
    "request failed",
  );
  if (error.retryAfterS !== undefined) reply.header("retry-after", String(error.retryAfterS));
  reply.status(error.status);
  const { errorBody, errorType } = dialectOf(request.url);
  return reply.header("content-type", errorType).send(JSON.stringify(errorBody(error)));
}

function toGfeError(thrown: FastifyError | GfeError | Error): GfeError {
  if (thrown instanceof GfeError) return thrown;
  const { code, validation, statusCode } = thrown as FastifyError;
  if (validation) {
    const path = validation[0]?.instancePath?.replace(/^\//, "").replaceAll("/", ".") ?? "";
    return new GfeError(
      "invalid_request",
      `${path === "" ? "request" : path}: ${validation[0]?.message ?? "is not valid"}`,
      { param: path },
    );
  }
  switch (code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return new GfeError("body_too_large");
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return new GfeError("unsupported_media_type");
    case "FST_ERR_CTP_EMPTY_JSON_BODY":
    case "FST_ERR_CTP_INVALID_JSON_BODY":
      return new GfeError("invalid_json");
  }
  if (thrown instanceof SyntaxError && statusCode === 400) return new GfeError("invalid_json");
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return new GfeError("invalid_request", thrown.message);
  if (isDatabaseAway(thrown))
    return new GfeError("overloaded", "The database does not answer; try again shortly", {
      retryAfterS: 2,
      cause: thrown,
    });
  return new GfeError("internal", undefined, { cause: thrown });
}

/**
 * No connection, one that was cut or went silent, a server without room (53…: disk, memory, connections) or with a
 * broken disk (58…): of the moment, and no fault of the request or of ours.
 */
function isDatabaseAway(thrown: Error): boolean {
  const { code, message } = thrown as FastifyError;
  return (
    (typeof code === "string" && /^(08...|57P0.|53...|58...|ECONN[A-Z]+|EPIPE|ENOENT)$/.test(code)) ||
    /^Connection terminated|timeout exceeded when trying to connect|^Query read timeout/i.test(message)
  );
}
