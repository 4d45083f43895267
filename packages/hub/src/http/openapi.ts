/** One generated OpenAPI 3.1 document for every route, and a page to read it. */
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyInstance } from "fastify";
import { jsonSchemaTransform } from "fastify-type-provider-zod";
import { type Dialect, dialectOf } from "./dialects.ts";
import { type RouteDoc, routeDocs } from "./route-docs.ts";

/** The page's own: the plug-in's would send browsers to HTTPS, which a hub in a local network has not. */
const PAGE_POLICY =
  "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><title>GPU For Everyone</title><path d="M8 11h16v10H8zM12 8v3m4-3v3m4-3v3m-8 10v3m4-3v3m4-3v3" fill="none" stroke="#e0b04c" stroke-width="2"/></svg>';

const text = { type: "string" };
/** What errors.ts makes of a fault, on /v1 and elsewhere. */
const errorSchemas = {
  OpenAiError: {
    type: "object",
    required: ["error"],
    properties: {
      error: {
        type: "object",
        required: ["message", "type", "param", "code"],
        properties: { message: text, type: text, param: { type: ["string", "null"] }, code: text },
      },
    },
  },
  AnthropicError: {
    type: "object",
    required: ["type", "error"],
    properties: {
      type: { const: "error" },
      error: { type: "object", required: ["type", "message"], properties: { type: text, message: text } },
    },
  },
  OllamaError: { type: "object", required: ["error"], properties: { error: text } },
  Problem: {
    type: "object",
    description: "RFC 9457",
    required: ["type", "title", "status", "detail", "code"],
    properties: {
      type: { type: "string", format: "uri" },
      title: text,
      status: { type: "integer" },
      detail: text,
      code: text,
      param: { ...text, description: "The field at fault" },
    },
  },
} as const;

type TransformArguments = Parameters<typeof jsonSchemaTransform>[0];

/** Adds what route-docs.ts says, and what is true of all routes. */
function transform(given: TransformArguments): ReturnType<typeof jsonSchemaTransform> {
  const method = [given.route.method].flat()[0]!;
  const { body, response, open }: RouteDoc = routeDocs[`${method} ${given.url}`] ?? {};
  const schema = {
    ...given.schema,
    ...(body ? { body } : {}),
    ...(response ? { response } : {}),
    ...(open ? { security: [] } : {}),
    operationId: operationId(method, given.url),
  };
  const transformed = jsonSchemaTransform({ ...given, schema } as TransformArguments);
  return { ...transformed, url: transformed.url.replace("*", ":model") };
}

/** `GET /api/v1/jobs/:id` → `getApiV1JobsId`. */
function operationId(method: string, url: string): string {
  const words = url.replace("*", "model").match(/[A-Za-z0-9]+/g) ?? [];
  return method.toLowerCase() + words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join("");
}

interface Operation {
  responses?: Record<string, object>;
  parameters?: { name: string }[];
}

const ERROR_NAMES: Record<Dialect["name"], keyof typeof errorSchemas> = {
  openai: "OpenAiError",
  anthropic: "AnthropicError",
  ollama: "OllamaError",
  gfe: "Problem",
};

/** Every operation may fail, in the dialect of its address. */
function withErrors<Document extends { paths?: object }>(document: Document): Document {
  for (const [path, item] of Object.entries(document.paths ?? {}) as [string, Record<string, Operation>][]) {
    const { name, errorType } = dialectOf(path);
    const content = { [errorType]: { schema: { $ref: `#/components/schemas/${ERROR_NAMES[name]}` } } };
    for (const operation of Object.values(item))
      operation.responses = { ...operation.responses, default: { description: "What went wrong", content } };
  }
  return document;
}

/** Must be registered before the routes it describes. */
export async function registerOpenApi(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "GPU For Everyone",
        version,
        description:
          "OpenAI-compatible inference under /v1, Anthropic's messages under /v1/messages, Ollama's API under /api/chat and its like, our own REST under /api/v1, the forerunner's under /api/computing.",
      },
      components: {
        securitySchemes: {
          key: { type: "http", scheme: "bearer", description: "An API key: gfe_sk_…" },
          session: { type: "apiKey", in: "cookie", name: "gfe.session_token" },
        },
        schemas: errorSchemas as never,
      },
      security: [{ key: [] }, { session: [] }],
    },
    transform,
    transformObject: (given) =>
      "openapiObject" in given ? withErrors(given.openapiObject) : given.swaggerObject,
  });
  await app.register(swaggerUi, {
    routePrefix: "/docs",
    staticCSP: PAGE_POLICY,
    theme: { title: "GPU For Everyone: API" },
    logo: { type: "image/svg+xml", content: LOGO, href: "/" },
    uiConfig: { validatorUrl: null }, // else the page would show the hub's address to a stranger
  });
  app.get("/openapi.json", { schema: { hide: true } }, async () => app.swagger());
}
