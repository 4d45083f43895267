import type { FastifyRequest } from "fastify";
import type { Caller } from "../accounts/accounts.ts";
import { CLIENT_ADDRESS_HEADER } from "../accounts/auth.ts";

/** The request as accounts/ looks at it. */
export function callerOf(request: FastifyRequest): Caller {
  return {
    header(name) {
      const value = request.headers[name];
      return Array.isArray(value) ? value.join(", ") : value;
    },
    get headers() {
      return webHeaders(request);
    },
    method: request.method,
  };
}

/** The headers of a request, with the caller's address in one that no caller can set. */
export function webHeaders(request: FastifyRequest): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  headers.set(CLIENT_ADDRESS_HEADER, request.ip);
  return headers;
}
