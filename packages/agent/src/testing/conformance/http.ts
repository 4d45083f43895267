import { readLines, readText } from "../../body.ts";
import { delay, type HttpResponse } from "../../host.ts";
import { became, type ConformanceCase, check, MIB, newId, rejection, same, textOf } from "./case.ts";

/** The next piece, as text; null at the end. */
function piecesOf(response: HttpResponse): () => Promise<string | null> {
  const iterator = response.body[Symbol.asyncIterator]();
  const decoder = new TextDecoder();
  return async () => {
    const { done, value } = await iterator.next();
    return done ? null : decoder.decode(value, { stream: true });
  };
}

export const httpCases: readonly ConformanceCase[] = [
  {
    name: "http: a response has its status, headers in any case and the whole body",
    async run({ host, url }) {
      const response = await host.http({ url: `${url}/echo` });
      same(response.status, 200, "status");
      same(response.header("x-method"), "GET", "method");
      same(response.header("X-METHOD"), "GET", "the header in capitals");
      same(response.header("absent"), undefined, "an absent header");
      same(response.header("set-cookie"), "a=1", "the first of several values");
      check((await readText(response, MIB)).includes('"body":""'), "no body was sent");
    },
  },
  {
    name: "http: a body goes as JSON by POST, whole, in UTF-8, with the headers given",
    async run({ host, url }) {
      const body = JSON.stringify({ text: "Grüße, 世界 🌍".repeat(50_000) });
      const response = await host.http({ url: `${url}/echo`, body, headers: { authorization: "Bearer x" } });
      const echo = JSON.parse(await readText(response, 16 * MIB)) as {
        body: string;
        headers: Record<string, string>;
      };
      same(response.header("x-method"), "POST", "method");
      same(echo.body, body, "body");
      same(echo.headers["content-type"], "application/json", "content type");
      same(echo.headers["content-length"], String(new TextEncoder().encode(body).length), "content length");
      same(echo.headers.authorization, "Bearer x", "authorization");
      same(echo.headers["accept-encoding"], undefined, "no compression is asked for");
    },
  },
  {
    name: "http: every status is an answer, and a redirect is not followed",
    async run({ host, url }) {
      for (const code of [204, 302, 404, 500]) {
        const response = await host.http({ url: `${url}/status?code=${code}` });
        same(response.status, code, "status");
        response.cancel();
      }
    },
  },
  {
    name: "http: a port where nothing listens rejects with ECONNREFUSED, and what is no http address rejects",
    async run({ host }) {
      const error = await rejection(host.http({ url: "http://127.0.0.1:1/" }), "a refused connection");
      same(error.code, "ECONNREFUSED", "code");
      await rejection(host.http({ url: "ftp://127.0.0.1/" }), "ftp");
      await rejection(host.http({ url: "file:///etc/passwd" }), "a file");
    },
  },
  {
    name: "http: an aborted signal rejects at once, with its reason",
    async run({ host, url }) {
      const reason = new Error("mine");
      const error = await rejection(
        host.http({ url: `${url}/echo`, signal: AbortSignal.abort(reason) }),
        "an aborted request",
      );
      same(error, reason, "reason");
    },
  },
  {
    name: "http: an abort before the response cuts the connection",
    async run(ground) {
      const id = newId();
      const controller = new AbortController();
      const sent = ground.host.http({ url: `${ground.url}/silent?id=${id}`, signal: controller.signal });
      await became(ground, id, "seen");
      controller.abort(new Error("enough"));
      await rejection(sent, "the request");
      same(await became(ground, id, "cut"), "cut", "the server's view");
    },
  },
  {
    name: "http: an abort in mid-body cuts the connection, and reading rejects",
    async run(ground) {
      const id = newId();
      const controller = new AbortController();
      const response = await ground.host.http({
        url: `${ground.url}/begin?id=${id}`,
        signal: controller.signal,
      });
      const next = piecesOf(response);
      same(await next(), "first\n", "first piece");
      const second = next();
      controller.abort(new Error("enough"));
      await rejection(second, "reading on");
      same(await became(ground, id, "cut"), "cut", "the server's view");
    },
  },
  {
    name: "http: pieces come as they are sent",
    async run(ground) {
      const id = newId();
      const next = piecesOf(await ground.host.http({ url: `${ground.url}/steps?id=${id}` }));
      same(await next(), "first\n", "first piece");
      await textOf(ground, `/go?id=${id}`);
      same(await next(), "second\n", "second piece");
      same(await next(), null, "end");
      same(await next(), null, "and again");
    },
  },
  {
    name: "http: not reading holds the sender back",
    async run(ground) {
      const id = newId();
      const response = await ground.host.http({ url: `${ground.url}/flood?id=${id}` });
      check(typeof (await piecesOf(response)()) === "string", "a first piece");
      const taken = Number(await became(ground, id, "still"));
      check(taken < 64 * MIB, `${taken} bytes were taken that nobody read`);
      response.cancel();
      same(await became(ground, id, "cut"), "cut", "the server's view after cancel");
    },
  },
  {
    name: "http: a body that is broken off rejects, with and without a length",
    async run({ host, url }) {
      for (const path of ["/cut", "/cut?length"])
        await rejection(readText(await host.http({ url: url + path }), MIB), path);
    },
  },
  {
    name: "http: a released response lets its connection serve again",
    async run(ground) {
      const { host, url } = ground;
      const response = await host.http({ url: `${url}/tail` });
      let port = "";
      for await (const piece of response.body) {
        port = new TextDecoder().decode(piece);
        break;
      }
      response.release();
      await delay(host, 100);
      same(await textOf(ground, "/port"), port, "port");
    },
  },
  {
    name: "http: a kept connection that the server closes is replaced without a word",
    async run(ground) {
      for (let waitMs = 16; waitMs <= 24; waitMs++) {
        await textOf(ground, "/port-and-close");
        await delay(ground.host, waitMs);
        const body = "{}";
        const response = await ground.host.http({ url: `${ground.url}/echo`, body });
        check((await readText(response, MIB)).includes('"{}"'), `the request after ${waitMs} ms`);
      }
    },
  },
  {
    name: "http: lines that arrive in pieces are read whole",
    async run({ host, url }) {
      const response = await host.http({ url: `${url}/tail` });
      const lines: string[] = [];
      for await (const some of readLines(response, { lineBytes: MIB, streamBytes: MIB })) lines.push(...some);
      same(lines[1], "tail", "last line");
    },
  },
];
