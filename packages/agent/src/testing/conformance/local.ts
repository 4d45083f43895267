import { readText } from "../../body.ts";
import { EndpointTaken, type Host, type LocalAnswer, type LocalRequest } from "../../host.ts";
import { type ConformanceCase, check, type Ground, MIB, rejection, same } from "./case.ts";

const LIMITS = { bodyBytes: 1000, connections: 8, requestMs: 5_000 };

const endpointOf = ({ host, directory }: Ground): string =>
  host.platform === "win32"
    ? `\\\\.\\pipe\\gfe-conformance-${host.processId}-${Math.round(host.random() * 1e9)}`
    : host.files.join(directory, "s.sock");

const ask = (host: Host, socketPath: string, body?: string) =>
  host.http({ url: "http://local/status?x=1", socketPath, ...(body === undefined ? {} : { body }) });

/** Answers with what it was asked. */
const echo = async (request: LocalRequest): Promise<LocalAnswer> => ({
  status: 201,
  body: JSON.stringify(request),
});

export const localCases: readonly ConformanceCase[] = [
  {
    name: "local: a program of the same user is answered, another endpoint of the name is refused, and the end is the end",
    async run(ground) {
      const { host } = ground;
      const endpoint = endpointOf(ground);
      const serving = await host.serve(endpoint, echo, LIMITS);
      if (host.platform !== "win32") same((await host.files.facts(endpoint))?.mode, 0o600, "mode");
      const response = await ask(host, endpoint, "Grüße");
      same(response.status, 201, "status");
      const { method, path, body } = JSON.parse(await readText(response, MIB)) as LocalRequest;
      same(`${method} ${path} ${body}`, "POST /status?x=1 Grüße", "what was asked");
      const large = await ask(host, endpoint, "x".repeat(LIMITS.bodyBytes + 1));
      same(large.status, 413, "status of too large a body");
      large.cancel();
      const taken = await rejection(host.serve(endpoint, echo, LIMITS), "a second one");
      check(taken instanceof EndpointTaken, "it says that the endpoint is taken");
      await serving.close();
      check(
        ["ENOENT", "ECONNREFUSED"].includes(String((await rejection(ask(host, endpoint), "asking")).code)),
        "gone",
      );
      await (await host.serve(endpoint, echo, LIMITS)).close();
    },
  },
  {
    name: "local: lines come as they are said, and their iterator is returned when the asker leaves",
    async run(ground) {
      const { host } = ground;
      const endpoint = endpointOf(ground);
      const left = Promise.withResolvers<void>();
      const more = Promise.withResolvers<IteratorResult<string>>();
      const lines = ["1", "2"];
      const body: AsyncIterable<string> = {
        [Symbol.asyncIterator]: () => ({
          async next() {
            const value = lines.shift();
            return value === undefined ? more.promise : { done: false, value };
          },
          async return() {
            left.resolve();
            return { done: true, value: undefined };
          },
        }),
      };
      const serving = await host.serve(endpoint, async () => ({ status: 200, body }), LIMITS);
      const response = await ask(host, endpoint);
      const decoder = new TextDecoder();
      let text = "";
      for await (const piece of response.body) {
        text += decoder.decode(piece, { stream: true });
        if (text === "1\n2\n") break;
      }
      same(text, "1\n2\n", "lines");
      response.cancel();
      await left.promise;
      more.resolve({ done: true, value: undefined });
      await serving.close();
    },
  },
];
