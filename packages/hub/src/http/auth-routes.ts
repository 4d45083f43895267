/** Hands /api/auth/* to accounts/. */
import type { FastifyInstance } from "fastify";
import type { Accounts } from "../accounts/accounts.ts";
import { webHeaders } from "./caller.ts";

const BODY_LIMIT_BYTES = 64 * 1024;

export function registerAuth(app: FastifyInstance, accounts: Accounts, baseUrl: string): void {
  void app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser(
      ["application/json", "application/x-www-form-urlencoded"],
      { parseAs: "string", bodyLimit: BODY_LIMIT_BYTES },
      (_request, body, done) => done(null, body),
    );
    scope.all("/api/auth/*", { schema: { hide: true } }, async (request, reply) => {
      const headers = webHeaders(request);
      headers.delete("content-length");
      const body = typeof request.body === "string" && request.body !== "" ? request.body : null;
      const response = await accounts.handle(
        new Request(new URL(request.url, baseUrl), { method: request.method, headers, body }),
      );
      reply.status(response.status);
      for (const [name, value] of response.headers) if (name !== "set-cookie") reply.header(name, value);
      for (const cookie of response.headers.getSetCookie()) reply.header("set-cookie", cookie);
      const retryAfter = response.headers.get("x-retry-after");
      if (retryAfter !== null) reply.header("retry-after", retryAfter);
      return reply.send(await response.text());
    });
  });
}
