import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { WebSocketServer } from "ws";
import { createNodeHttp, dialNodeSocket } from "./node-network.ts";
import { tunnelTo } from "./node-proxy.ts";

let directory: string;
let hub: Server;
let proxy: Server;
let port: number;
let asked: string[] = [];
const listen = (server: Server) =>
  new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)),
  );

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "gfe-proxy-"));
  const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  const subject = ["-subj", "/CN=hub.test", "-addext", "subjectAltName=DNS:hub.test"];
  const made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", ...made, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  const tls = { key: readFileSync(key), cert: readFileSync(cert) };
  hub = createTlsServer(tls, (_request, response) => response.end("hello"));
  const sockets = new WebSocketServer({ server: hub });
  sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(`echo ${data}`)));
  port = await listen(hub);
  // As a company's proxy: it knows the way to hub.test, and nobody else does.
  proxy = createServer((_request, response) => response.writeHead(405).end());
  proxy.on("connect", (request, client) => {
    asked.push(request.url ?? "");
    const upstream = connect(port, "127.0.0.1", () => {
      client.write("HTTP/1.1 200 Connection Established\r\n\r\n");
      upstream.pipe(client).pipe(upstream);
    });
    upstream.on("error", () => client.destroy());
    client.on("error", () => upstream.destroy());
  });
  const proxyPort = await listen(proxy);
  process.env.HTTPS_PROXY = `http://127.0.0.1:${proxyPort}`;
});
afterEach(() => {
  asked = [];
  delete process.env.NO_PROXY;
});
afterAll(() => {
  delete process.env.HTTPS_PROXY;
  for (const server of [hub, proxy]) {
    server?.closeAllConnections();
    server?.close();
  }
  rmSync(directory, { recursive: true, force: true });
});

/** In a process of its own: Node reads the authority's certificate from the environment at its start. */
function runChild(script: string): Promise<string> {
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: join(directory, "cert.pem") };
  const from = new URL("./node-network.ts", import.meta.url).href;
  const code = `import { createNodeHttp, dialNodeSocket } from ${JSON.stringify(from)};\n${script}`;
  return new Promise((resolve, reject) =>
    execFile(process.execPath, ["--input-type=module", "-e", code], { env }, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    ),
  );
}

test("HTTP goes through the proxy's tunnel, to a hub whose certificate an own authority signed", async () => {
  const said = await runChild(`
    const response = await createNodeHttp()({ url: "https://hub.test:8443/x" });
    let text = "";
    for await (const chunk of response.body) text += new TextDecoder().decode(chunk);
    console.log(response.status, text);
    process.exit(0);`);
  expect(said.trim()).toBe("200 hello");
  expect(asked).toEqual(["hub.test:8443"]);
});

test("a WebSocket goes the same way", async () => {
  const said = await runChild(`
    const socket = dialNodeSocket("wss://hub.test:8443/agent", { headers: {}, timeoutMs: 5000 }, {
      message(data) { console.log(data); process.exit(0); },
      closed({ reason }) { console.log("closed " + reason); process.exit(1); },
    });
    const wait = setInterval(() => socket.send("hi"), 20);`);
  expect(said.trim().split("\n")[0]).toBe("echo hi");
  expect(asked).toEqual(["hub.test:8443"]);
});

test("without the authority it is refused: the tunnel is encrypted from end to end", async () => {
  await expect(createNodeHttp()({ url: "https://hub.test:8443/" })).rejects.toMatchObject({
    code: expect.stringMatching(/SELF_SIGNED|UNABLE_TO/),
  });
  const closed = await new Promise<string>((resolve) =>
    dialNodeSocket(
      "wss://hub.test:8443/",
      { headers: {}, timeoutMs: 5000 },
      {
        message() {},
        closed: ({ reason }) => resolve(reason),
      },
    ),
  );
  expect(closed).toMatch(/self-signed/);
});

test("this machine and what NO_PROXY names are reached directly", () => {
  process.env.NO_PROXY = "inside.example,.corp.example";
  const through = (url: string) => tunnelTo(new URL(url)) !== undefined;
  expect(
    [
      "https://127.0.0.1/",
      "https://[::1]:1/",
      "https://localhost/",
      "https://inside.example/",
      "wss://a.corp.example/",
    ].map(through),
  ).toEqual([false, false, false, false, false]);
  expect(["https://hub.test/", "wss://hub.test/agent"].map(through)).toEqual([true, true]);
});
