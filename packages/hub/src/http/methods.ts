/** Which methods an address takes: what tells a wrong method (405) from a wrong address (404). */
import type { FastifyInstance } from "fastify";

declare module "fastify" {
  interface FastifyInstance {
    /** The methods of the routes at this path, sorted; none where there is no route. */
    methodsAt(path: string): string[];
  }
}

/** Must come before the routes. The dashboard's wildcard does not count: it would be a route at every address. */
export function rememberMethods(app: FastifyInstance): void {
  const routes: { pattern: RegExp; methods: string[] }[] = [];
  app.addHook("onRoute", ({ url, method }) => {
    if (url !== "/*" && url !== "*") routes.push({ pattern: patternOf(url), methods: [method].flat() });
  });
  app.decorate("methodsAt", (path: string) => {
    const found = routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods);
    return [...new Set(found)].sort();
  });
}

/** `/a/:b/*` → `^/a/[^/]+/.*\/?$` */
function patternOf(url: string): RegExp {
  const parts = url
    .replace(/\/$/, "")
    .split(/(:\w+|\*)/)
    .map((part) =>
      part === "*" ? ".*" : part.startsWith(":") ? "[^/]+" : part.replace(/[.\\+?^${}()|[\]]/g, "\\$&"),
    );
  return new RegExp(`^${parts.join("")}/?$`);
}
