/** The dashboard's built files, with its page for every address that is not the API's. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fastifyStatic from "@fastify/static";
import { GfeError } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";

const DIST = fileURLToPath(new URL("../../../web/dist/", import.meta.url));
const NOT_PAGES =
  /^\/((api|v1|agent|docs|openapi\.json|metrics|healthz|readyz|assets|install\.sh|install\.ps1)(\/|$|\?)|download\/)/;

/** `dist` is the folder of the built dashboard, with a slash at its end. */
export async function registerWeb(app: FastifyInstance, dist: string = DIST): Promise<void> {
  const built = existsSync(`${dist}index.html`);
  if (built) {
    await app.register(fastifyStatic, {
      root: dist,
      setHeaders(response, path) {
        // Asset names carry their hash; the page that names them must be asked for each time.
        response.header(
          "cache-control",
          path.includes("/assets/") ? "public, max-age=31536000, immutable" : "no-cache",
        );
      },
    });
  }
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?")[0]!;
    const methods = app.methodsAt(path);
    if (methods.length > 0) {
      reply.header("allow", methods.join(", "));
      throw new GfeError("method_not_allowed", `${path} takes ${methods.join(", ")}`);
    }
    if (NOT_PAGES.test(request.url) || request.method !== "GET")
      throw new GfeError("not_found", `There is nothing at ${path}`);
    if (built) return reply.sendFile("index.html");
    return reply
      .type("text/plain; charset=utf-8")
      .send("The hub is running. The dashboard is not built: run `npm run build`.\n");
  });
}
